// Package federation lets providers talk to each other: mutual TLS, the
// directory document, the MIMI endpoints over HTTPS and the outbound queues
// (draft-ietf-mimi-protocol-06, sections 4.1 and 5).
//
// [Peers] comes first. It holds who we are (domain, certificate), whom we
// trust (roots, the allowlist) and what we know of each peer (connections,
// directory). [Peers.Do] sends one request, [NewHandler] answers requests by
// calling a [Backend], [Outbox] keeps every follower up to date with the rooms
// it follows, and [Peers.Anchors] fetches and checks the certificate authority
// that each peer vouches for.
//
// Promises:
//
//   - A provider is authenticated for its provider domain by the dNSName of its
//     certificate, in both directions, whatever host the directory or a static
//     map points at. Wildcard names do not authenticate a provider. The From and
//     Host header fields must agree with the certificates.
//   - No endpoint of a peer is hard-coded; all come from its directory, which is
//     cached as its Cache-Control allows.
//   - A body larger than the limit of its endpoint is refused before it is read.
//   - Nobody is a peer by default: a domain is on the allowlist, or federation
//     is open.
//   - The Outbox sends the events of one room to one peer strictly in order, and
//     counts an event as delivered only after a success code. What remains is
//     read from cursors in the store, so a restart needs no recovery.
//   - Errors become HTTP status codes in one place ([Status]); an error that is
//     not listed there becomes 500 without detail.
//
// Choices where the draft is silent, beside those of the Comity wire profile:
// the certificate of a peer may carry the serverAuth usage, the clientAuth
// usage or both (public authorities no longer issue clientAuth); a Host that is
// not ours is answered 421; an unknown peer 403; redirects are not followed.
//
// What it does not do: consent, identifier queries, abuse reports and asset
// proxying are not part of this version; their endpoints are absent from the
// directory and answered 404.
package federation
