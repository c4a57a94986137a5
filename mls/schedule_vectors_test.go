package mls

import (
	"testing"

	"github.com/comity-im/comity/internal/vectors"
)

func TestKeyScheduleVectors(t *testing.T) {
	var cases []struct {
		CipherSuite CipherSuite `json:"cipher_suite"`
		GroupID     vectors.Hex `json:"group_id"`
		InitSecret  vectors.Hex `json:"initial_init_secret"`
		Epochs      []struct {
			TreeHash           vectors.Hex `json:"tree_hash"`
			CommitSecret       vectors.Hex `json:"commit_secret"`
			PSKSecret          vectors.Hex `json:"psk_secret"`
			ConfirmedHash      vectors.Hex `json:"confirmed_transcript_hash"`
			GroupContext       vectors.Hex `json:"group_context"`
			JoinerSecret       vectors.Hex `json:"joiner_secret"`
			WelcomeSecret      vectors.Hex `json:"welcome_secret"`
			InitSecret         vectors.Hex `json:"init_secret"`
			SenderDataSecret   vectors.Hex `json:"sender_data_secret"`
			EncryptionSecret   vectors.Hex `json:"encryption_secret"`
			ExporterSecret     vectors.Hex `json:"exporter_secret"`
			EpochAuthenticator vectors.Hex `json:"epoch_authenticator"`
			ExternalSecret     vectors.Hex `json:"external_secret"`
			ConfirmationKey    vectors.Hex `json:"confirmation_key"`
			MembershipKey      vectors.Hex `json:"membership_key"`
			ResumptionPSK      vectors.Hex `json:"resumption_psk"`
			ExternalPub        vectors.Hex `json:"external_pub"`
			Exporter           struct {
				Label   string      `json:"label"`
				Context vectors.Hex `json:"context"`
				Length  int         `json:"length"`
				Secret  vectors.Hex `json:"secret"`
			} `json:"exporter"`
		} `json:"epochs"`
	}
	vectors.Load(t, "mls", "key-schedule.json", &cases)
	for _, c := range cases {
		t.Run(c.CipherSuite.String(), func(t *testing.T) {
			s := mustSuite(t, c.CipherSuite)
			init := []byte(c.InitSecret)
			for i, e := range c.Epochs {
				gc := GroupContext{
					Version:                 MLS10,
					CipherSuite:             c.CipherSuite,
					GroupID:                 c.GroupID,
					Epoch:                   uint64(i),
					TreeHash:                e.TreeHash,
					ConfirmedTranscriptHash: e.ConfirmedHash,
				}
				context, err := Marshal(&gc)
				noError(t, err)
				equal(t, "group_context", context, e.GroupContext)
				psk := []byte(e.PSKSecret)
				if psk == nil {
					psk = make([]byte, s.nh())
				}
				joiner, err := s.joinerSecret(init, e.CommitSecret, context)
				noError(t, err)
				equal(t, "joiner_secret", joiner, e.JoinerSecret)
				welcome, err := s.welcomeSecret(joiner, psk)
				noError(t, err)
				equal(t, "welcome_secret", welcome, e.WelcomeSecret)
				x, err := s.epochFromJoiner(joiner, psk, context)
				noError(t, err)
				equal(t, "init_secret", x.init, e.InitSecret)
				equal(t, "sender_data_secret", x.senderData, e.SenderDataSecret)
				equal(t, "encryption_secret", x.encryption, e.EncryptionSecret)
				equal(t, "exporter_secret", x.exporter, e.ExporterSecret)
				equal(t, "epoch_authenticator", x.authenticator, e.EpochAuthenticator)
				equal(t, "external_secret", x.external, e.ExternalSecret)
				equal(t, "confirmation_key", x.confirmation, e.ConfirmationKey)
				equal(t, "membership_key", x.membership, e.MembershipKey)
				equal(t, "resumption_psk", x.resumption, e.ResumptionPSK)
				_, pub, err := s.deriveKeyPair(x.external)
				noError(t, err)
				equal(t, "external_pub", pub, e.ExternalPub)
				out, err := s.export(x.exporter, e.Exporter.Label, e.Exporter.Context, e.Exporter.Length)
				noError(t, err)
				equal(t, "exporter", out, e.Exporter.Secret)
				init = x.init
			}
		})
	}
}

func TestPSKSecretVectors(t *testing.T) {
	var cases []struct {
		CipherSuite CipherSuite `json:"cipher_suite"`
		PSKs        []struct {
			ID    vectors.Hex `json:"psk_id"`
			PSK   vectors.Hex `json:"psk"`
			Nonce vectors.Hex `json:"psk_nonce"`
		} `json:"psks"`
		PSKSecret vectors.Hex `json:"psk_secret"`
	}
	vectors.Load(t, "mls", "psk_secret.json", &cases)
	for _, c := range cases {
		s := mustSuite(t, c.CipherSuite)
		var in []pskInput
		for _, p := range c.PSKs {
			in = append(in, pskInput{PreSharedKeyID{Type: PSKExternal, ID: p.ID, Nonce: p.Nonce}, p.PSK})
		}
		out, err := s.pskSecret(in)
		noError(t, err)
		equal(t, "psk_secret", out, c.PSKSecret)
	}
}

func TestTranscriptHashesVectors(t *testing.T) {
	var cases []struct {
		CipherSuite     CipherSuite `json:"cipher_suite"`
		ConfirmationKey vectors.Hex `json:"confirmation_key"`
		Content         vectors.Hex `json:"authenticated_content"`
		InterimBefore   vectors.Hex `json:"interim_transcript_hash_before"`
		ConfirmedAfter  vectors.Hex `json:"confirmed_transcript_hash_after"`
		InterimAfter    vectors.Hex `json:"interim_transcript_hash_after"`
	}
	vectors.Load(t, "mls", "transcript-hashes.json", &cases)
	for _, c := range cases {
		t.Run(c.CipherSuite.String(), func(t *testing.T) {
			s := mustSuite(t, c.CipherSuite)
			var ac AuthenticatedContent
			decode(t, c.Content, &ac)
			confirmed, err := s.confirmedTranscriptHash(c.InterimBefore, &ac)
			noError(t, err)
			equal(t, "confirmed_transcript_hash", confirmed, c.ConfirmedAfter)
			equal(t, "confirmation_tag", s.confirmationTag(c.ConfirmationKey, confirmed), ac.Auth.ConfirmationTag)
			interim, err := s.interimTranscriptHash(confirmed, ac.Auth.ConfirmationTag)
			noError(t, err)
			equal(t, "interim_transcript_hash", interim, c.InterimAfter)
		})
	}
}

func TestWelcomeVectors(t *testing.T) {
	var cases []struct {
		CipherSuite CipherSuite `json:"cipher_suite"`
		InitPriv    vectors.Hex `json:"init_priv"`
		SignerPub   vectors.Hex `json:"signer_pub"`
		KeyPackage  vectors.Hex `json:"key_package"`
		Welcome     vectors.Hex `json:"welcome"`
	}
	vectors.Load(t, "mls", "welcome.json", &cases)
	for _, c := range cases {
		t.Run(c.CipherSuite.String(), func(t *testing.T) {
			s := mustSuite(t, c.CipherSuite)
			var kp, wm MLSMessage
			decode(t, c.KeyPackage, &kp)
			decode(t, c.Welcome, &wm)
			ref, err := kp.KeyPackage.Ref()
			noError(t, err)
			gs, err := wm.Welcome.openSecrets(s, ref, c.InitPriv)
			noError(t, err)
			zero := make([]byte, s.nh())
			welcome, err := s.welcomeSecret(gs.JoinerSecret, zero)
			noError(t, err)
			gi, err := s.openGroupInfo(welcome, wm.Welcome.EncryptedGroupInfo)
			noError(t, err)
			noError(t, gi.VerifySignature(c.SignerPub))
			context, err := Marshal(&gi.GroupContext)
			noError(t, err)
			e, err := s.epochFromJoiner(gs.JoinerSecret, zero, context)
			noError(t, err)
			equal(t, "confirmation_tag", s.confirmationTag(e.confirmation, gi.GroupContext.ConfirmedTranscriptHash), gi.ConfirmationTag)
		})
	}
}

func TestSecretTreeVectors(t *testing.T) {
	var cases []struct {
		CipherSuite CipherSuite `json:"cipher_suite"`
		SenderData  struct {
			Secret     vectors.Hex `json:"sender_data_secret"`
			Ciphertext vectors.Hex `json:"ciphertext"`
			Key        vectors.Hex `json:"key"`
			Nonce      vectors.Hex `json:"nonce"`
		} `json:"sender_data"`
		EncryptionSecret vectors.Hex `json:"encryption_secret"`
		Leaves           [][]struct {
			Generation       uint32      `json:"generation"`
			HandshakeKey     vectors.Hex `json:"handshake_key"`
			HandshakeNonce   vectors.Hex `json:"handshake_nonce"`
			ApplicationKey   vectors.Hex `json:"application_key"`
			ApplicationNonce vectors.Hex `json:"application_nonce"`
		} `json:"leaves"`
	}
	vectors.Load(t, "mls", "secret-tree.json", &cases)
	for _, c := range cases {
		t.Run(c.CipherSuite.String(), func(t *testing.T) {
			s := mustSuite(t, c.CipherSuite)
			k, err := s.senderDataKey(c.SenderData.Secret, c.SenderData.Ciphertext)
			noError(t, err)
			equal(t, "sender data key", k.key, c.SenderData.Key)
			equal(t, "sender data nonce", k.nonce, c.SenderData.Nonce)

			tree := newSecretTree(s, uint32(len(c.Leaves)), append([]byte(nil), c.EncryptionSecret...))
			for leaf, gens := range c.Leaves {
				for _, g := range gens {
					for _, want := range []struct {
						kind       ratchetKind
						key, nonce []byte
					}{
						{handshakeRatchet, g.HandshakeKey, g.HandshakeNonce},
						{applicationRatchet, g.ApplicationKey, g.ApplicationNonce},
					} {
						u, err := tree.open(LeafIndex(leaf), want.kind, g.Generation, 1024)
						noError(t, err)
						equal(t, "key", u.key, want.key)
						equal(t, "nonce", u.nonce, want.nonce)
						u.consume(1024)
					}
				}
			}
			if len(tree.nodes) != 0 {
				t.Errorf("%d node secrets are left although all leaves were used", len(tree.nodes))
			}
		})
	}
}

func TestMessageProtectionVectors(t *testing.T) {
	var cases []struct {
		CipherSuite      CipherSuite `json:"cipher_suite"`
		GroupID          vectors.Hex `json:"group_id"`
		Epoch            uint64      `json:"epoch"`
		TreeHash         vectors.Hex `json:"tree_hash"`
		ConfirmedHash    vectors.Hex `json:"confirmed_transcript_hash"`
		SignaturePriv    vectors.Hex `json:"signature_priv"`
		SignaturePub     vectors.Hex `json:"signature_pub"`
		EncryptionSecret vectors.Hex `json:"encryption_secret"`
		SenderDataSecret vectors.Hex `json:"sender_data_secret"`
		MembershipKey    vectors.Hex `json:"membership_key"`
		Proposal         vectors.Hex `json:"proposal"`
		ProposalPub      vectors.Hex `json:"proposal_pub"`
		ProposalPriv     vectors.Hex `json:"proposal_priv"`
		Commit           vectors.Hex `json:"commit"`
		CommitPub        vectors.Hex `json:"commit_pub"`
		CommitPriv       vectors.Hex `json:"commit_priv"`
		Application      vectors.Hex `json:"application"`
		ApplicationPriv  vectors.Hex `json:"application_priv"`
	}
	vectors.Load(t, "mls", "message-protection.json", &cases)
	for _, c := range cases {
		t.Run(c.CipherSuite.String(), func(t *testing.T) {
			s := mustSuite(t, c.CipherSuite)
			context, err := Marshal(&GroupContext{
				Version: MLS10, CipherSuite: s.id, GroupID: c.GroupID, Epoch: c.Epoch,
				TreeHash: c.TreeHash, ConfirmedTranscriptHash: c.ConfirmedHash,
			})
			noError(t, err)
			signer, err := NewSigner(s.id, c.SignaturePriv)
			noError(t, err)
			newTree := func() *secretTree {
				return newSecretTree(s, 2, append([]byte(nil), c.EncryptionSecret...))
			}
			body := func(f *FramedContent) []byte {
				switch f.ContentType {
				case ContentProposal:
					b, err := Marshal(f.Proposal)
					noError(t, err)
					return b
				case ContentCommit:
					b, err := Marshal(f.Commit)
					noError(t, err)
					return b
				}
				return f.Application
			}
			checkPublic := func(m *PublicMessage, want []byte) {
				t.Helper()
				noError(t, m.checkSender())
				noError(t, m.verifyMembership(s, c.MembershipKey, context))
				noError(t, m.authenticated().verify(s.id, c.SignaturePub, context))
				equal(t, "content", body(&m.Content), want)
				m.MembershipTag = append([]byte(nil), m.MembershipTag...)
				m.MembershipTag[0] ^= 1
				if m.verifyMembership(s, c.MembershipKey, context) == nil {
					t.Error("a wrong membership tag verifies")
				}
			}
			checkPrivate := func(m *PrivateMessage, want []byte) {
				t.Helper()
				tree := newTree()
				sd, err := m.openSenderData(s, c.SenderDataSecret)
				noError(t, err)
				if sd.leaf != 1 {
					t.Fatalf("sender is leaf %d", sd.leaf)
				}
				u, err := tree.open(sd.leaf, ratchetOf(m.ContentType), sd.generation, 16)
				noError(t, err)
				ac, err := m.openContent(s, u.messageKey, sd)
				noError(t, err)
				noError(t, ac.verify(s.id, c.SignaturePub, context))
				equal(t, "content", body(&ac.Content), want)
				u.consume(16)
				if _, err := tree.open(sd.leaf, ratchetOf(m.ContentType), sd.generation, 16); err == nil {
					t.Error("a consumed key can be opened again")
				}
			}
			content := func(t ContentType) FramedContent {
				return FramedContent{GroupID: c.GroupID, Epoch: c.Epoch, Sender: MemberSender(1), ContentType: t}
			}
			for _, v := range []struct {
				kind      ContentType
				raw       []byte
				pub, priv []byte
			}{
				{ContentProposal, c.Proposal, c.ProposalPub, c.ProposalPriv},
				{ContentCommit, c.Commit, c.CommitPub, c.CommitPriv},
				{ContentApplication, c.Application, nil, c.ApplicationPriv},
			} {
				f := content(v.kind)
				switch v.kind {
				case ContentProposal:
					f.Proposal = new(Proposal)
					decode(t, v.raw, f.Proposal)
				case ContentCommit:
					f.Commit = new(Commit)
					decode(t, v.raw, f.Commit)
				default:
					f.Application = v.raw
				}
				var m MLSMessage
				if v.pub != nil {
					decode(t, v.pub, &m)
					checkPublic(m.PublicMessage, v.raw)
				}
				decode(t, v.priv, &m)
				checkPrivate(m.PrivateMessage, v.raw)

				pub := &AuthenticatedContent{WireFormat: WirePublicMessage, Content: f}
				noError(t, pub.sign(signer, context))
				if v.kind == ContentCommit {
					pub.Auth.ConfirmationTag = make([]byte, s.nh())
				}
				pm, err := pub.public(s, c.MembershipKey, context)
				if v.kind == ContentApplication {
					if err == nil {
						t.Error("application data was protected as a PublicMessage")
					}
				} else {
					noError(t, err)
					checkPublic(pm, v.raw)
				}

				priv := &AuthenticatedContent{WireFormat: WirePrivateMessage, Content: f}
				noError(t, priv.sign(signer, context))
				if v.kind == ContentCommit {
					priv.Auth.ConfirmationTag = make([]byte, s.nh())
				}
				k, gen, err := newTree().take(1, ratchetOf(v.kind))
				noError(t, err)
				m2, err := priv.private(s, k, gen, c.SenderDataSecret)
				noError(t, err)
				checkPrivate(m2, v.raw)
			}
		})
	}
}
