// Package identity says who someone is: it issues and verifies the
// certificates that bind a device's MLS signature key to the URIs of the
// device and of its user, and it finds out which authority may do so for a
// provider's domain.
//
// It follows RFC 9420 section 5.3 and draft-ietf-mimi-protocol-06. The draft
// draft-mahy-mimi-identity-05 shows an example certificate and sets no rules,
// so the rules are a profile of Comity's own, "MIMI client certificate
// profile 1":
//
//   - The leaf is an X.509 version 3 certificate of at most 90 days. Its
//     subjectAltName is critical and holds exactly two names, both URIs in
//     canonical form: one mimi://domain/d/… (the device) and one
//     mimi://domain/u/… (the user), both of one domain. It is no CA, its key
//     usage is digitalSignature (keyAgreement may be set too), its extended
//     key usage is clientAuth and nothing else. It has no unknown critical
//     extension. Its key is the MLS signature key.
//   - A provider, as external sender of a group, has the same kind of leaf with
//     exactly one name, mimi://domain. It may last as long as its CA, because
//     rooms name it for as long as they exist.
//   - The chain is sent leaf first, in order, each certificate certified by the
//     next, and ends below a CA of that domain. The CA itself may be left out.
//   - The CA has a critical name constraint that permits the URIs of its domain
//     only.
//
// Which CA belongs to a domain is said by an [AnchorStatement], which the
// provider signs with the TLS key that authenticates it to the world. A client
// verifies it against its own TLS roots, so it need not believe its own
// provider about any other. [PinnedAnchors] then remembers the answer: a later
// CA is accepted if the pinned one endorsed it.
//
// Start with [CA] to issue, with [Verifier] to verify. A usual verifier is
//
//	&identity.Verifier{Anchors: &identity.CachedAnchors{
//	    Source: &identity.PinnedAnchors{
//	        Source: &identity.FetchedAnchors{Fetch: fetch, Roots: roots},
//	        Store:  pins,
//	    },
//	}}
//
// What it promises: everything not described above is refused; a refused
// credential gives an error that says why and matches one of the sentinels;
// all types are safe for concurrent use unless they say otherwise.
//
// What it does not do: there is no revocation of single certificates. A
// provider stops a device by removing it from its rooms and by not renewing
// its certificate. TLS certificates under a statement are checked for name,
// chain, usage and time, not for revocation or transparency. Basic, JWT and
// SD-CWT credentials are refused.
package identity
