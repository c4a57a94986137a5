// Drives clients of ts-mls for the Go tests of this folder. It reads one
// request a line as JSON, { op, client, … }, and answers each with one line:
// the result, or { error }. Octets are base64. One process holds any number
// of clients, and each client one group.
//
// Where ts-mls 1.6.4 leaves something to its user or differs from RFC 9420,
// the code here says so and does what the RFC says.
import { readFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { p256, p384, p521 } from "@noble/curves/nist.js"
import {
  acceptAll,
  branchGroup,
  ciphersuites,
  createApplicationMessage,
  createCommit,
  createGroup,
  createProposal,
  decodeMlsMessage,
  defaultCapabilities,
  encodeMlsMessage,
  generateKeyPackageWithKey,
  getCiphersuiteFromName,
  getCiphersuiteImpl,
  joinGroup,
  joinGroupExternal,
  joinGroupFromBranch,
  joinGroupFromReinit,
  makePskIndex,
  mlsExporter,
  processPrivateMessage,
  processPublicMessage,
  proposeAddExternal,
  reinitCreateNewGroup,
} from "ts-mls"
import { defaultClientConfig } from "ts-mls/clientConfig.js"
import { createGroupInfo, createGroupInfoWithRatchetTree } from "ts-mls/createCommit.js"
import { encodeGroupContext } from "ts-mls/groupContext.js"
import { signLeafNodeCommit } from "ts-mls/leafNode.js"
import { updateLeafKey } from "ts-mls/privateKeyPath.js"
import { decodeRatchetTree, encodeRatchetTree } from "ts-mls/ratchetTree.js"

const day = 24n * 60n * 60n
const clients = new Map()

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"))
const base64 = (octets) => Buffer.from(octets).toString("base64")
const utf8 = (text) => new TextEncoder().encode(text)
const seconds = () => BigInt(Math.floor(Date.now() / 1000))

// vector prefixes octets with their length (RFC 9420 section 2.1.2).
function vector(octets) {
  const prefix = octets.length < 64 ? [octets.length] : [0x40 | (octets.length >> 8), octets.length & 0xff]
  return new Uint8Array([...prefix, ...octets])
}

const suiteName = (id) => Object.keys(ciphersuites).find((name) => ciphersuites[name] === id)

function client(name) {
  const c = clients.get(name)
  if (c === undefined) throw new Error(`no client ${name}`)
  return c
}

function config({ pastEpochs, generations }) {
  return {
    ...defaultClientConfig,
    keyRetentionConfig: {
      retainKeysForEpochs: pastEpochs,
      retainKeysForGenerations: generations,
      maximumForwardRatchetSteps: generations,
    },
    lifetimeConfig: { maximumTotalLifetime: 91n * day, validateLifetimeOnReceive: true },
  }
}

// pskIndex finds the resumption keys of the client's group, and knows every
// external key: it follows from the ID, here as in the Go tests.
function pskIndex(state) {
  const own = makePskIndex(state, {})
  return {
    findPsk(id) {
      return id.psktype === "external" ? utf8(`secret of ${Buffer.from(id.pskId).toString()}`) : own.findPsk(id)
    },
  }
}

function message(b64) {
  const decoded = decodeMlsMessage(bytes(b64), 0)
  if (decoded === undefined) throw new Error("message does not decode")
  const [m, length] = decoded
  const again = encodeMlsMessage(m)
  if (base64(again) !== b64) throw new Error(`${length} octets decode to what encodes to ${again.length} others`)
  return m
}

const wrap = (wireformat, content) => base64(encodeMlsMessage({ version: "mls10", wireformat, ...content }))

function tree(b64) {
  const decoded = decodeRatchetTree(bytes(b64), 0)
  if (decoded === undefined) throw new Error("ratchet tree does not decode")
  return decoded[0]
}

// Signature keys of ECDSA are uncompressed points (RFC 9420 section 5.1.1).
// ts-mls makes compressed ones; it uses either.
const curves = {
  MLS_128_DHKEMP256_AES128GCM_SHA256_P256: p256,
  MLS_256_DHKEMP384_AES256GCM_SHA384_P384: p384,
  MLS_256_DHKEMP521_AES256GCM_SHA512_P521: p521,
}

async function signatureKeys(cs) {
  const { signKey, publicKey } = await cs.signature.keygen()
  const curve = curves[cs.name]
  return { signKey, publicKey: curve === undefined ? publicKey : curve.Point.fromBytes(publicKey).toBytes(false) }
}

// makeKeyPackage gives a client new keys; the signature key stays if it has
// one.
async function makeKeyPackage(c, identity) {
  c.signature ??= await signatureKeys(c.cs)
  const { publicPackage, privatePackage } = await generateKeyPackageWithKey(
    { credentialType: "basic", identity: utf8(identity) },
    defaultCapabilities(), // with GREASE
    { notBefore: seconds() - 3600n, notAfter: seconds() + 80n * day },
    [],
    c.signature,
    c.cs,
  )
  c.keyPackage = publicPackage
  c.privateKeys = privatePackage
}

function enter(c, state) {
  c.state = state
  c.staged = undefined
  c.updates = new Map()
}

// The extension_data of external_pub is struct ExternalPub { HPKEPublicKey
// external_pub; }, so a vector (RFC 9420 section 12.4.3.2). ts-mls puts the
// bare key into it and expects the bare key. Here its encoding is added…
async function externalPub(c) {
  const pair = await c.cs.hpke.deriveKeyPair(c.state.keySchedule.externalSecret)
  return { extensionType: "external_pub", extensionData: vector(await c.cs.hpke.exportPublicKey(pair.publicKey)) }
}

// … and taken off where ts-mls imports the extension as a key.
function importingExternalPub(cs, data) {
  const hpke = {
    ...cs.hpke,
    importPublicKey(key) {
      if (key !== data) return cs.hpke.importPublicKey(key)
      const prefix = key[0] < 0x40 ? 1 : 2
      const bare = key.slice(prefix)
      if (base64(vector(bare)) !== base64(key)) throw new Error("external_pub is not a vector")
      return cs.hpke.importPublicKey(bare)
    },
  }
  return { ...cs, hpke }
}

// ts-mls has no way to make an Update, and does not keep the key of one. The
// driver signs the leaf and keeps the key until the commit.
async function updateProposal(c) {
  const pair = await c.cs.hpke.generateKeyPair()
  const publicKey = await c.cs.hpke.exportPublicKey(pair.publicKey)
  const leafIndex = c.state.privatePath.leafIndex
  const { extensions, capabilities, credential, signaturePublicKey } = c.state.ratchetTree[2 * leafIndex].leaf
  const leaf = await signLeafNodeCommit(
    {
      leafNodeSource: "update",
      hpkePublicKey: publicKey,
      extensions,
      capabilities,
      credential,
      signaturePublicKey,
      groupId: c.state.groupContext.groupId,
      leafIndex,
    },
    c.state.signaturePrivateKey,
    c.cs.signature,
  )
  const { groupId: _g, leafIndex: _l, ...leafNode } = leaf
  c.updates.set(base64(publicKey), await c.cs.hpke.exportPrivateKey(pair.privateKey))
  return { proposalType: "update", update: { leafNode } }
}

async function proposal(c, p) {
  switch (p.kind) {
    case "add":
      return { proposalType: "add", add: { keyPackage: message(p.keyPackage).keyPackage } }
    case "update":
      return updateProposal(c)
    case "remove":
      return { proposalType: "remove", remove: { removed: p.leaf } }
    case "psk": {
      const pskNonce = c.cs.rng.randomBytes(c.cs.kdf.size)
      return { proposalType: "psk", psk: { preSharedKeyId: { psktype: "external", pskId: utf8(p.psk), pskNonce } } }
    }
    case "resumption": {
      const pskNonce = c.cs.rng.randomBytes(c.cs.kdf.size)
      const pskGroupId = c.state.groupContext.groupId
      const id = { psktype: "resumption", usage: "application", pskGroupId, pskEpoch: BigInt(p.epoch), pskNonce }
      return { proposalType: "psk", psk: { preSharedKeyId: id } }
    }
    case "reinit":
      return {
        proposalType: "reinit",
        reinit: { groupId: bytes(p.groupID), version: "mls10", cipherSuite: suiteName(p.suite), extensions: [] },
      }
    case "extensions": {
      const extensions = [{ extensionType: "required_capabilities", extensionData: bytes(p.extension) }]
      return { proposalType: "group_context_extensions", groupContextExtensions: { extensions } }
    }
  }
  throw new Error(`no proposal of kind ${p.kind}`)
}

function processHandshake(c, m, state, callback) {
  // processMessage passes no keys on for a PrivateMessage.
  if (m.wireformat === "mls_public_message") {
    return processPublicMessage(state, m.publicMessage, pskIndex(state), c.cs, callback)
  }
  return processPrivateMessage(state, m.privateMessage, pskIndex(state), c.cs, callback)
}

// withUpdate returns the client's state with the key of its own Update, if
// the commit m applies it.
async function withUpdate(c, m) {
  if (c.updates.size === 0) return c.state
  let key
  await processHandshake(c, m, c.state, (incoming) => {
    for (const { proposal: p } of incoming.proposals ?? []) {
      if (p.proposalType === "update") key = c.updates.get(base64(p.update.leafNode.hpkePublicKey)) ?? key
    }
    return "reject"
  })
  return key === undefined ? c.state : { ...c.state, privatePath: updateLeafKey(c.state.privatePath, key) }
}

const ops = {
  // Forgets all clients.
  reset() {
    clients.clear()
    return {}
  },

  version() {
    const installed = JSON.parse(readFileSync(new URL("node_modules/ts-mls/package.json", import.meta.url)))
    return { node: process.version, tsmls: installed.version }
  },

  // Lists the code points of the suites that work here.
  async suites() {
    const usable = []
    for (const [name, id] of Object.entries(ciphersuites)) {
      try {
        const cs = await getCiphersuiteImpl(getCiphersuiteFromName(name))
        await cs.signature.keygen()
        await cs.hpke.generateKeyPair()
        usable.push(id)
      } catch {
        // An optional dependency is not installed.
      }
    }
    return { suites: usable }
  },

  // Makes a client with a KeyPackage.
  async client({ client: name, suite, pastEpochs, generations }) {
    const cs = await getCiphersuiteImpl(getCiphersuiteFromName(suiteName(suite)))
    const c = { cs, config: config({ pastEpochs, generations }) }
    await makeKeyPackage(c, name)
    clients.set(name, c)
    return { keyPackage: wrap("mls_key_package", { keyPackage: c.keyPackage }) }
  },

  async create({ client: name, groupID }) {
    const c = client(name)
    enter(c, await createGroup(bytes(groupID), c.keyPackage, c.privateKeys, [], c.cs, c.config))
    return {}
  },

  async joinWelcome({ client: name, welcome, tree: t }) {
    const c = client(name)
    const w = message(welcome).welcome
    const known = t ? tree(t) : undefined
    enter(c, await joinGroup(w, c.keyPackage, c.privateKeys, pskIndex(), c.cs, known, undefined, c.config))
    return {}
  },

  // Joins by an external commit. With resync it replaces the client's leaf.
  async joinExternal({ client: name, groupInfo, tree: t, resync, aad }) {
    const c = client(name)
    const gi = message(groupInfo).groupInfo
    if (resync) await makeKeyPackage(c, name)
    const data = gi.extensions.find((x) => x.extensionType === "external_pub")?.extensionData
    const cs = importingExternalPub(c.cs, data)
    const known = t ? tree(t) : undefined
    const r = await joinGroupExternal(gi, c.keyPackage, c.privateKeys, resync, cs, known, c.config, bytes(aad))
    enter(c, r.newState)
    return { commit: wrap("mls_public_message", { publicMessage: r.publicMessage }) }
  },

  // Proposes its own addition, as one who is not a member.
  async proposeSelf({ client: name, groupInfo }) {
    const c = client(name)
    const gi = message(groupInfo).groupInfo
    return { message: base64(encodeMlsMessage(await proposeAddExternal(gi, c.keyPackage, c.privateKeys, c.cs))) }
  },

  async propose({ client: name, proposal: p, private: isPrivate, aad }) {
    const c = client(name)
    const r = await createProposal(c.state, !isPrivate, await proposal(c, p), c.cs, bytes(aad))
    c.state = r.newState
    return { message: base64(encodeMlsMessage(r.message)) }
  },

  // Commits all pending proposals and the given ones. ts-mls includes a path
  // exactly when one is needed.
  async commit({ client: name, proposals, private: isPrivate, treeInWelcome, aad }) {
    const c = client(name)
    const extraProposals = []
    for (const p of proposals ?? []) extraProposals.push(await proposal(c, p))
    const r = await createCommit(
      { state: c.state, cipherSuite: c.cs, pskIndex: pskIndex(c.state) },
      {
        wireAsPublicMessage: !isPrivate,
        extraProposals,
        ratchetTreeExtension: treeInWelcome,
        authenticatedData: bytes(aad),
      },
    )
    c.staged = r.newState
    return {
      commit: base64(encodeMlsMessage(r.commit)),
      welcome: r.welcome === undefined ? undefined : wrap("mls_welcome", { welcome: r.welcome }),
      tree: base64(encodeRatchetTree(r.newState.ratchetTree)),
    }
  },

  merge({ client: name }) {
    const c = client(name)
    if (c.staged === undefined) throw new Error("nothing staged")
    enter(c, c.staged)
    return {}
  },

  // Drops a staged commit, since another was accepted.
  drop({ client: name }) {
    client(name).staged = undefined
    return {}
  },

  // Processes a proposal or a commit.
  async process({ client: name, message: b64 }) {
    const c = client(name)
    const m = message(b64)
    const contentType = m.wireformat === "mls_public_message" ? m.publicMessage.content.contentType : m.privateMessage.contentType
    if (contentType === "proposal") {
      c.state = (await processHandshake(c, m, c.state, acceptAll)).newState
      return { removed: false }
    }
    const r = await processHandshake(c, m, await withUpdate(c, m), acceptAll)
    enter(c, r.newState)
    return { removed: c.state.groupActiveState.kind === "removedFromGroup" }
  },

  async encrypt({ client: name, data, aad }) {
    const c = client(name)
    const r = await createApplicationMessage(c.state, bytes(data), c.cs, bytes(aad))
    c.state = r.newState
    return { message: wrap("mls_private_message", { privateMessage: r.privateMessage }) }
  },

  async decrypt({ client: name, message: b64 }) {
    const c = client(name)
    const { privateMessage } = message(b64)
    const r = await processPrivateMessage(c.state, privateMessage, pskIndex(c.state), c.cs)
    if (r.kind !== "applicationMessage") throw new Error(`not an application message, but ${r.kind}`)
    c.state = r.newState
    return { data: base64(r.message), aad: base64(privateMessage.authenticatedData) }
  },

  // Makes a client of a name, which is its identity, for the group that
  // follows that of the client from.
  async successor({ client: name, from, suite, identity }) {
    const old = client(from)
    const cs = await getCiphersuiteImpl(getCiphersuiteFromName(suiteName(suite)))
    const c = { cs, config: old.config, from: old }
    await makeKeyPackage(c, identity)
    clients.set(name, c)
    return { keyPackage: wrap("mls_key_package", { keyPackage: c.keyPackage }) }
  },

  // Creates the group that follows, with those whose KeyPackages are given.
  async succeed({ client: name, kind, groupID, keyPackages }) {
    const c = client(name)
    const others = keyPackages.map((kp) => message(kp).keyPackage)
    const { state } = c.from
    const r =
      kind === "branch"
        ? await branchGroup(state, c.keyPackage, c.privateKeys, others, bytes(groupID), c.cs)
        : await reinitCreateNewGroup(state, c.keyPackage, c.privateKeys, others, bytes(groupID), c.cs.name, [])
    enter(c, r.newState)
    return { welcome: wrap("mls_welcome", { welcome: r.welcome }), tree: base64(encodeRatchetTree(r.newState.ratchetTree)) }
  },

  async joinSuccessor({ client: name, kind, welcome, tree: t }) {
    const c = client(name)
    const w = message(welcome).welcome
    const { state } = c.from
    const known = t ? tree(t) : undefined
    const joined =
      kind === "branch"
        ? await joinGroupFromBranch(state, w, c.keyPackage, c.privateKeys, known, c.cs)
        : await joinGroupFromReinit(state, w, c.keyPackage, c.privateKeys, known)
    enter(c, joined)
    return {}
  },

  // Reports the views that the named clients have of their group.
  async report({ clients: names, label, context }) {
    const reports = []
    for (const name of names) {
      const { state, cs } = client(name)
      const exported = await mlsExporter(state.keySchedule.exporterSecret, label, bytes(context), 32, cs)
      reports.push({
        groupContext: base64(encodeGroupContext(state.groupContext)),
        treeHash: base64(state.groupContext.treeHash),
        confirmationTag: base64(state.confirmationTag),
        authenticator: base64(state.keySchedule.epochAuthenticator),
        exported: base64(exported),
        leaf: state.privatePath.leafIndex,
        pending: Object.keys(state.unappliedProposals).length,
      })
    }
    return { reports }
  },

  // Returns a GroupInfo of the epoch, with or without ratchet_tree, and the
  // tree.
  async groupInfo({ client: name, withTree }) {
    const c = client(name)
    const { groupContext, confirmationTag, ratchetTree } = c.state
    const extensions = [await externalPub(c)]
    const gi = withTree
      ? await createGroupInfoWithRatchetTree(groupContext, confirmationTag, c.state, ratchetTree, extensions, c.cs)
      : await createGroupInfo(groupContext, confirmationTag, c.state, extensions, c.cs)
    return { groupInfo: wrap("mls_group_info", { groupInfo: gi }), tree: base64(encodeRatchetTree(ratchetTree)) }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer
  try {
    const request = JSON.parse(line)
    answer = await ops[request.op](request)
  } catch (e) {
    answer = { error: `${e.constructor?.name}: ${e.message}` }
  }
  process.stdout.write(JSON.stringify(answer) + "\n")
}
