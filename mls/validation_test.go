package mls

import (
	"strings"
	"testing"
)

// A validation is an entry of OpenMLS's catalogue of validation steps: the
// ids valn… of its published list and those that its source adds, and the
// ValSem table of its book.
type validation struct {
	id   string
	rule string // what must hold
	not  string // why there is no test for it, or ""
}

// catalogue lists all ids. Every one has a test of its name in one of the
// maps of validationTests, or a reason.
var catalogue = []validation{
	// Leaves.
	{"valn0101", "the application accepts the credential of a leaf", ""},
	{"valn0102", "a leaf is signed with its own signature key, for its place", ""},
	{"valn0103", "a leaf supports what required_capabilities lists", ""},
	{"valn0104", "a leaf's credential type is known to all, and it knows the types of all", ""},
	{"valn0105", "whoever sends a leaf of a KeyPackage checks its lifetime", ""},
	{"valn0106", "whoever receives a leaf of a KeyPackage checks its lifetime", ""},
	{"valn0107", "a leaf lists the types of its own extensions", ""},
	{"valn0108", "the leaf of a KeyPackage says that this is its source", ""},
	{"valn0109", "the leaf of an Update says so and has a new encryption key", ""},
	{"valn0110", "the leaf of a path says that it comes from a commit", ""},
	{"valn0111", "no two members have one signature key", ""},
	{"valn0112", "no two members have one encryption key", ""},
	{"valn0113", "a leaf lists its own credential type", ""},
	// KeyPackages.
	{"valn0201", "a KeyPackage is of the group's version and cipher suite", ""},
	{"valn0202", "the leaf of a KeyPackage is valid", ""},
	{"valn0203", "a KeyPackage is signed with the key of its leaf", ""},
	{"valn0204", "the init key is not the encryption key", ""},
	{"valn0205", "a KeyPackage is of the version of the MLSMessage around it", ""},
	// The list of a member's commit.
	{"valn0301", "every proposal of a commit is valid by itself", ""},
	{"valn0302", "no Update of the committer", ""},
	{"valn0303", "no Remove of the committer", ""},
	{"valn0304", "one Update or Remove per leaf", ""},
	{"valn0305", "no client is added twice", ""},
	{"valn0306", "no member is added again, unless it is removed", ""},
	{"valn0307", "no pre-shared key twice", ""},
	{"valn0308", "one GroupContextExtensions", ""},
	{"valn0309", "a ReInit stands alone", ""},
	{"valn0310", "no ExternalInit", ""},
	{"valn0311", "only proposal types that all know who process the commit", ""},
	{"valn0312", "the tree that results is valid", ""},
	// The list of an external commit.
	{"valn0401", "one ExternalInit", ""},
	{"valn0402", "one Remove at most, of an earlier self", ""},
	{"valn0403", "pre-shared keys are allowed, each once", ""},
	{"valn0404", "no proposal of another type", ""},
	{"valn0405", "there is a path", ""},
	{"valn0406", "nothing by reference, but SelfRemove", ""},
	{"valn0407", "it is signed with the key of its path's leaf", ""},
	{"valn0408", "its sender is a new_member_commit", ""},
	// Proposals by themselves.
	{"valn0501", "the KeyPackage of an Add is valid", ""},
	{"valn0502", "the leaf of an Add knows the extensions of the GroupContext", ""},
	{"valn0601", "the leaf of an Update is valid", ""},
	{"valn0602", "the leaf of an Update knows the extensions of the GroupContext", ""},
	{"valn0701", "a Remove names a member", ""},
	{"valn0801", "no pre-shared key for a reinitialization", ""},
	{"valn0802", "no pre-shared key for a branch", ""},
	{"valn0803", "the nonce of a pre-shared key has KDF.Nh octets", ""},
	{"valn0901", "a ReInit does not go back to an older version", ""},
	{"valn1001", "required_capabilities asks for what all members can, new ones too", ""},
	{"valn1101", "a path secret is encrypted to every node below, but not to new leaves", ""},
	// Commits.
	{"valn1201", "a commit is of the present epoch", ""},
	{"valn1202", "a commit of a member has its membership tag", ""},
	{"valn1203", "a commit has its sender's signature", ""},
	{"valn1204", "the list of proposals is valid", ""},
	{"valn1205", "the pre-shared keys of a commit are available", ""},
	{"valn1206", "there is a path if one is needed", ""},
	{"valn1207", "the leaf of the path is valid", ""},
	{"valn1208", "the committer's encryption key is a new one", ""},
	{"valn1209", "no key of the path is elsewhere in the tree", ""},
	{"valn1210", "the leaf of the path knows the extensions of the GroupContext", ""},
	// Framing.
	{"valn1301", "the key that verifies a message is the one of its kind of sender", ""},
	{"valn1302", "a PublicMessage has its tags and signature", ""},
	{"valn1303", "padding is zero", ""},
	{"valn1304", "a PrivateMessage has its signature and confirmation tag", ""},
	{"valn1305", "only members send PrivateMessages", ""},
	{"valn1306", "the sender of a PrivateMessage is a member", ""},
	{"valn1307", "a proposal is signed and of the present epoch", ""},
	// Joining.
	{"valn1401", "the pre-shared keys of a Welcome are available", ""},
	{"valn1402", "a GroupInfo is signed by a member", ""},
	{"valn1403", "the client is not in a group of that ID yet", "the caller of JoinWelcome knows its groups, a Group does not; its documentation says so"},
	{"valn1404", "Welcome, GroupInfo and KeyPackage are of one cipher suite", ""},
	{"valn1405", "the tree has the hash of the GroupContext", ""},
	{"valn1406", "every parent is parent-hash valid", ""},
	{"valn1407", "every leaf of the tree is valid", ""},
	{"valn1408", "an unmerged leaf is a member below the parent", ""},
	{"valn1409", "an unmerged leaf is unmerged in all parents between", ""},
	{"valn1410", "the key of a parent is nowhere else in the tree", ""},
	{"valn1411", "the confirmation tag of a GroupInfo verifies", ""},
	{"valn1412", "the group after a reinitialization or branch starts in epoch 1", ""},
	{"valn1413", "the group after a reinitialization is the announced one", ""},
	{"valn1414", "the group after a branch is a part of the old one", ""},
	{"valn1415", "the joiner itself knows the extensions of the GroupContext", ""},
	// Proposals from outside.
	{"valn1501", "an external sender sends proposals only", ""},
	{"valn1502", "an external sender sends allowed types only", ""},
	{"valn1503", "a new member sends a proposal only", ""},
	{"valn1504", "a new member proposes its Add only", ""},
	// Extensions in their place.
	{"valn1601", "a LeafNode holds extensions for leaves only", ""},
	{"valn1602", "a GroupInfo holds extensions for GroupInfos only", ""},
	{"valn1603", "a GroupContext holds extensions for GroupContexts only", ""},
	{"valn1604", "a KeyPackage holds extensions for KeyPackages only", ""},
	// The book's table.
	{"ValSem002", "group ID", ""},
	{"ValSem003", "epoch", ""},
	{"ValSem004", "the sender is a member", ""},
	{"ValSem005", "application data is private", ""},
	{"ValSem006", "a ciphertext decrypts", ""},
	{"ValSem007", "a membership tag is there", ""},
	{"ValSem008", "the membership tag verifies", ""},
	{"ValSem009", "a confirmation tag is there", ""},
	{"ValSem010", "the signature verifies", ""},
	{"ValSem011", "padding is zero", ""},
	{"ValSem101", "signature keys of Adds are unique", ""},
	{"ValSem102", "init keys of Adds are unique", ""},
	{"ValSem103", "encryption keys of Adds are unique", ""},
	{"ValSem104", "init key and encryption key differ", ""},
	{"ValSem105", "an Add is of the group's suite and version", ""},
	{"ValSem106", "an Add has the required capabilities", ""},
	{"ValSem107", "a leaf is removed once", ""},
	{"ValSem108", "who is removed is a member", ""},
	{"ValSem109", "an Update has the required capabilities", ""},
	{"ValSem110", "encryption keys of Updates are unique", ""},
	{"ValSem111", "no own Update, and none by value", ""},
	{"ValSem112", "the sender of an Update is a member", ""},
	{"ValSem113", "all know the types of the proposals", ""},
	{"ValSem200", "no Remove of the committer", ""},
	{"ValSem201", "a path where one is needed", ""},
	{"ValSem202", "the path has the right length", ""},
	{"ValSem203", "path secrets decrypt", ""},
	{"ValSem204", "path secrets give the public keys of the path", ""},
	{"ValSem205", "the confirmation tag verifies", ""},
	{"ValSem206", "the encryption key of the path's leaf is unique", ""},
	{"ValSem207", "the encryption keys of the path are unique", ""},
	{"ValSem208", "one GroupContextExtensions", ""},
	{"ValSem209", "all know the extensions of a GroupContextExtensions", ""},
	{"ValSem240", "an external commit has an ExternalInit", ""},
	{"ValSem241", "an external commit has one ExternalInit", ""},
	{"ValSem242", "an external commit has allowed types only", ""},
	{"ValSem244", "an external commit refers to nothing", ""},
	{"ValSem245", "an external commit has a path", ""},
	{"ValSem246", "an external commit is signed with the key of its path", ""},
	{"ValSem247", "the credential of an external commit's path is the one that counts", ""},
	{"ValSem300", "no blank nodes at the end of a ratchet_tree", ""},
	{"ValSem400", "resumption keys are kept for a limited number of epochs", ""},
	{"ValSem401", "the nonce of a pre-shared key has KDF.Nh octets", ""},
	{"ValSem402", "a pre-shared key is external or for resumption by the application", ""},
	{"ValSem403", "no pre-shared key twice", ""},
}

// validationTests are the tests by id. A test for several ids is there under
// each of them.
var validationTests = []map[string]func(a *arena){
	leafValidations, listValidations, externalValidations, commitValidations, framingValidations, joinValidations,
}

// TestValidation breaks every rule of the catalogue, before members and
// before the hub where it can see that.
func TestValidation(t *testing.T) {
	known := map[string]bool{}
	for _, v := range catalogue {
		if known[v.id] {
			t.Errorf("%s is listed twice", v.id)
		}
		known[v.id] = true
		var tests []func(a *arena)
		for _, m := range validationTests {
			if f := m[v.id]; f != nil {
				tests = append(tests, f)
			}
		}
		switch {
		case v.rule == "":
			t.Errorf("%s has no description", v.id)
		case len(tests) == 0 && v.not == "":
			t.Errorf("%s (%s) has neither a test nor a reason for having none", v.id, v.rule)
		case len(tests) > 0 && v.not != "":
			t.Errorf("%s has a test and a reason for having none", v.id)
		}
		for _, f := range tests {
			t.Run(v.id, func(t *testing.T) {
				a := newArena(t)
				f(a)
				if a.refusals == 0 {
					t.Error("the test refused nothing")
				}
				a.alive()
			})
		}
	}
	for _, m := range validationTests {
		for id := range m {
			if !known[id] {
				t.Errorf("%s is tested, but not in the catalogue", id)
			}
		}
	}
}

// The catalogue is complete: it has every id that its source lists, and
// those that the source of OpenMLS adds to it.
func TestCatalogueIsComplete(t *testing.T) {
	listed := map[string]bool{}
	for _, v := range catalogue {
		listed[v.id] = true
	}
	for _, id := range strings.Fields(catalogueIDs) {
		if !listed[id] {
			t.Errorf("%s is missing", id)
		}
		delete(listed, id)
	}
	for id := range listed {
		t.Errorf("%s is not an id of the catalogue", id)
	}
}

// catalogueIDs are the ids as they were found in August 2026.
const catalogueIDs = `
valn0101 valn0102 valn0103 valn0104 valn0105 valn0106 valn0107 valn0108 valn0109 valn0110 valn0111 valn0112 valn0113
valn0201 valn0202 valn0203 valn0204 valn0205
valn0301 valn0302 valn0303 valn0304 valn0305 valn0306 valn0307 valn0308 valn0309 valn0310 valn0311 valn0312
valn0401 valn0402 valn0403 valn0404 valn0405 valn0406 valn0407 valn0408
valn0501 valn0502 valn0601 valn0602 valn0701 valn0801 valn0802 valn0803 valn0901 valn1001 valn1101
valn1201 valn1202 valn1203 valn1204 valn1205 valn1206 valn1207 valn1208 valn1209 valn1210
valn1301 valn1302 valn1303 valn1304 valn1305 valn1306 valn1307
valn1401 valn1402 valn1403 valn1404 valn1405 valn1406 valn1407 valn1408 valn1409 valn1410 valn1411 valn1412 valn1413 valn1414 valn1415
valn1501 valn1502 valn1503 valn1504 valn1601 valn1602 valn1603 valn1604
ValSem002 ValSem003 ValSem004 ValSem005 ValSem006 ValSem007 ValSem008 ValSem009 ValSem010 ValSem011
ValSem101 ValSem102 ValSem103 ValSem104 ValSem105 ValSem106 ValSem107 ValSem108 ValSem109 ValSem110 ValSem111 ValSem112 ValSem113
ValSem200 ValSem201 ValSem202 ValSem203 ValSem204 ValSem205 ValSem206 ValSem207 ValSem208 ValSem209
ValSem240 ValSem241 ValSem242 ValSem244 ValSem245 ValSem246 ValSem247
ValSem300 ValSem400 ValSem401 ValSem402 ValSem403`
