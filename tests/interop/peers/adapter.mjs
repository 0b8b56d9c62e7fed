// One face for both versions of ts-mls: clients with one group each, bytes in and out.
// Their own calls only; what a version has no call for is not offered here.

import { pathToFileURL } from "node:url"
import path from "node:path"

const SUITES = {
  1: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
  3: "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
  84: "MLS_256_XWING_CHACHA20POLY1305_SHA512_Ed25519",
}
SUITES[0xf00e] = SUITES[84]

// ts-mls takes the data of external_pub for the key itself; section 12.4.3.2 has an HPKEPublicKey there, with its length.
// The length is added where a GroupInfo is made, and taken away where one is used.

function withLength(key) {
  const length = key.length < 64 ? [key.length] : [0x40 | (key.length >> 8), key.length & 0xff]
  return new Uint8Array([...length, ...key])
}

const LENGTHS = { 33: 1, 1218: 2 } // of X25519 and X-Wing keys with their lengths: how long these are

function withoutLength(key) {
  return key.slice(LENGTHS[key.length] ?? 0)
}

function showing(cs) {
  const exportPublicKey = async (key) => withLength(await cs.hpke.exportPublicKey(key))
  return { ...cs, hpke: { ...cs.hpke, exportPublicKey } }
}

function shown(cs) {
  const importPublicKey = (bytes) => cs.hpke.importPublicKey(withoutLength(bytes))
  return { ...cs, hpke: { ...cs.hpke, importPublicKey } }
}

export async function load(peers, major) {
  const part = (name) => import(pathToFileURL(path.join(peers, "node_modules", `ts-mls-${major}`, "dist", "src", name)))
  const [mls, proposals, trees] = [await part("index.js"), await part("proposal.js"), await part("ratchetTree.js")]
  return major === 1 ? new First(mls, proposals, trees) : new Second(mls, proposals, trees)
}

class Peer {
  constructor(mls, proposals, trees) {
    Object.assign(this, { mls, proposals, trees })
    this.suites = new Map()
    this.psks = {}
  }

  // a secret that clients know, by its id
  psk(id, secret) {
    this.psks[this.mls.bytesToBase64(id)] = secret
  }

  async client(number, name) {
    if (!this.suites.has(number)) this.suites.set(number, await this.suite(number))
    const client = { cs: this.suites.get(number), number, state: undefined }
    const { publicPackage, privatePackage } = await this.keyPackage(client.cs, new TextEncoder().encode(name))
    client.publicPackage = publicPackage
    client.privatePackage = privatePackage
    return client
  }

  remove(leaf) {
    return { proposalType: this.types.remove, remove: { removed: leaf } }
  }

  add(keyPackage) {
    return { proposalType: this.types.add, add: { keyPackage: this.decode(keyPackage).keyPackage } }
  }

  keyPackageMessage(client) {
    return this.encode({ wireformat: this.formats.keyPackage, version: this.version, keyPackage: client.publicPackage })
  }

  async groupInfo(client, withTree) {
    const { createGroupInfoWithExternalPub, createGroupInfoWithExternalPubAndRatchetTree } = this.mls
    const create = withTree ? createGroupInfoWithExternalPubAndRatchetTree : createGroupInfoWithExternalPub
    const groupInfo = await create(client.state, [], showing(client.cs))
    return this.encode({ wireformat: this.formats.groupInfo, version: this.version, groupInfo })
  }

  info(client) {
    const { groupContext, keySchedule, privatePath } = client.state
    return {
      epoch: Number(groupContext.epoch),
      authenticator: keySchedule.epochAuthenticator,
      treeHash: groupContext.treeHash,
      index: privatePath.leafIndex,
    }
  }
}

class First extends Peer {
  version = "mls10"
  types = { add: "add", remove: "remove" }
  formats = { keyPackage: "mls_key_package", welcome: "mls_welcome", groupInfo: "mls_group_info" }

  encode(message) {
    return this.mls.encodeMlsMessage(message)
  }

  proposal(bytes) {
    return this.proposals.decodeProposal(bytes, 0)[0]
  }

  tree(bytes) {
    return bytes && this.trees.decodeRatchetTree(bytes, 0)[0]
  }

  pskIndex(client) {
    return this.mls.makePskIndex(client.state, this.psks)
  }

  decode(bytes) {
    return this.mls.decodeMlsMessage(bytes, 0)[0]
  }

  async suite(number) {
    return this.mls.getCiphersuiteImpl(this.mls.getCiphersuiteFromName(SUITES[number]))
  }

  async keyPackage(cs, identity) {
    const { mls } = this
    const credential = { credentialType: "basic", identity }
    return mls.generateKeyPackage(credential, mls.defaultCapabilities(), mls.defaultLifetime, [], cs)
  }

  async create(client, groupId) {
    client.state = await this.mls.createGroup(groupId, client.publicPackage, client.privatePackage, [], client.cs)
  }

  async join(client, bytes, tree) {
    const { welcome } = this.decode(bytes)
    client.state = await this.mls.joinGroup(
      welcome,
      client.publicPackage,
      client.privatePackage,
      this.pskIndex(client),
      client.cs,
      this.tree(tree),
    )
  }

  async stage(client, proposals, wireAsPublicMessage = false, ratchetTreeExtension = true) {
    const { newState, welcome, commit } = await this.mls.createCommit(
      { state: client.state, cipherSuite: client.cs, pskIndex: this.pskIndex(client) },
      { extraProposals: proposals, wireAsPublicMessage, ratchetTreeExtension },
    )
    const message = welcome && { wireformat: this.formats.welcome, version: this.version, welcome }
    return { next: newState, commit: this.encode(commit), welcome: message && this.encode(message) }
  }

  async propose(client, proposal, wireAsPublicMessage = false) {
    const { newState, message } = await this.mls.createProposal(client.state, wireAsPublicMessage, proposal, client.cs)
    client.state = newState
    return this.encode(message)
  }

  async protect(client, data) {
    const { newState, privateMessage } = await this.mls.createApplicationMessage(client.state, data, client.cs)
    return {
      next: newState,
      message: this.encode({ wireformat: "mls_private_message", version: this.version, privateMessage }),
    }
  }

  // not by processMessage, which in both versions knows no PSKs in a PrivateMessage
  async process(client, bytes) {
    const { processPrivateMessage, processPublicMessage } = this.mls
    const { privateMessage, publicMessage } = this.decode(bytes)
    const psks = this.pskIndex(client)
    const result = privateMessage
      ? await processPrivateMessage(client.state, privateMessage, psks, client.cs)
      : await processPublicMessage(client.state, publicMessage, psks, client.cs)
    return { next: result.newState, data: result.kind === "applicationMessage" ? result.message : undefined }
  }

  async external(client, bytes, resync, tree) {
    const { groupInfo } = this.decode(bytes)
    const { publicMessage, newState } = await this.mls.joinGroupExternal(
      groupInfo,
      client.publicPackage,
      client.privatePackage,
      resync,
      shown(client.cs),
      this.tree(tree),
    )
    client.state = newState
    return this.encode({ wireformat: "mls_public_message", version: this.version, publicMessage })
  }
}

class Second extends Peer {
  version = 1
  types = { add: 1, remove: 3 }
  formats = { keyPackage: 5, welcome: 3, groupInfo: 4 }

  encode(message) {
    return this.mls.encode(this.mls.mlsMessageEncoder, message)
  }

  decode(bytes) {
    return this.mls.decode(this.mls.mlsMessageDecoder, bytes)
  }

  proposal(bytes) {
    return this.mls.decode(this.proposals.proposalDecoder, bytes)
  }

  tree(bytes) {
    return bytes && this.mls.decode(this.trees.ratchetTreeDecoder, bytes)
  }

  context(client) {
    return {
      cipherSuite: client.cs,
      authService: this.mls.unsafeTestingAuthenticationService,
      externalPsks: this.psks,
    }
  }

  async suite(number) {
    return this.mls.getCiphersuiteImpl(SUITES[number])
  }

  async keyPackage(cs, identity) {
    const { mls } = this
    const credential = { credentialType: mls.defaultCredentialTypes.basic, identity }
    return mls.generateKeyPackage({ credential, capabilities: mls.defaultCapabilities(), cipherSuite: cs })
  }

  async create(client, groupId) {
    client.state = await this.mls.createGroup({
      context: this.context(client),
      groupId,
      keyPackage: client.publicPackage,
      privateKeyPackage: client.privatePackage,
    })
  }

  async join(client, bytes, tree) {
    client.state = await this.mls.joinGroup({
      context: this.context(client),
      welcome: this.decode(bytes).welcome,
      keyPackage: client.publicPackage,
      privateKeys: client.privatePackage,
      ratchetTree: this.tree(tree),
    })
  }

  async stage(client, proposals, wireAsPublicMessage = false, ratchetTreeExtension = true) {
    const { newState, welcome, commit } = await this.mls.createCommit({
      context: this.context(client),
      state: client.state,
      extraProposals: proposals,
      wireAsPublicMessage,
      ratchetTreeExtension,
    })
    return { next: newState, commit: this.encode(commit), welcome: welcome && this.encode(welcome) }
  }

  async propose(client, proposal, wireAsPublicMessage = false) {
    const { newState, message } = await this.mls.createProposal({
      context: this.context(client),
      state: client.state,
      wireAsPublicMessage,
      proposal,
    })
    client.state = newState
    return this.encode(message)
  }

  async protect(client, data) {
    const { newState, message } = await this.mls.createApplicationMessage({
      context: this.context(client),
      state: client.state,
      message: data,
    })
    return { next: newState, message: this.encode(message) }
  }

  async process(client, bytes) {
    const { processPrivateMessage, processPublicMessage } = this.mls
    const { privateMessage, publicMessage } = this.decode(bytes)
    const request = { context: this.context(client), state: client.state }
    const result = privateMessage
      ? await processPrivateMessage({ ...request, privateMessage })
      : await processPublicMessage({ ...request, publicMessage })
    return { next: result.newState, data: result.kind === "applicationMessage" ? result.message : undefined }
  }

  async external(client, bytes, resync, tree) {
    const { publicMessage, newState } = await this.mls.joinGroupExternal({
      context: { ...this.context(client), cipherSuite: shown(client.cs) },
      groupInfo: this.decode(bytes).groupInfo,
      keyPackage: client.publicPackage,
      privateKeys: client.privatePackage,
      resync,
      tree: this.tree(tree),
    })
    client.state = newState
    return this.encode({ wireformat: 1, version: this.version, publicMessage })
  }
}
