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

export async function load(peers, major) {
  const entry = path.join(peers, "node_modules", `ts-mls-${major}`, "dist", "src", "index.js")
  const mls = await import(pathToFileURL(entry))
  return major === 1 ? new First(mls) : new Second(mls)
}

class Peer {
  constructor(mls) {
    this.mls = mls
    this.suites = new Map()
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

  info(client) {
    const { groupContext, keySchedule, privatePath } = client.state
    return {
      epoch: Number(groupContext.epoch),
      authenticator: keySchedule.epochAuthenticator,
      treeHash: groupContext.treeHash,
      index: privatePath.leafIndex,
    }
  }

  async exported(client, label, context, length) {
    return this.mls.mlsExporter(client.state.keySchedule.exporterSecret, label, context, length, client.cs)
  }
}

class First extends Peer {
  version = "mls10"
  types = { add: "add", remove: "remove" }
  formats = { keyPackage: "mls_key_package", welcome: "mls_welcome", groupInfo: "mls_group_info" }

  encode(message) {
    return this.mls.encodeMlsMessage(message)
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

  async join(client, bytes) {
    const { welcome } = this.decode(bytes)
    client.state = await this.mls.joinGroup(
      welcome,
      client.publicPackage,
      client.privatePackage,
      this.mls.emptyPskIndex,
      client.cs,
    )
  }

  async stage(client, proposals, wireAsPublicMessage = false) {
    const { newState, welcome, commit } = await this.mls.createCommit(
      { state: client.state, cipherSuite: client.cs },
      { extraProposals: proposals, wireAsPublicMessage, ratchetTreeExtension: true },
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

  async process(client, bytes) {
    const { mls } = this
    const result = await mls.processMessage(
      this.decode(bytes),
      client.state,
      mls.makePskIndex(client.state, {}),
      mls.acceptAll,
      client.cs,
    )
    return { next: result.newState, data: result.kind === "applicationMessage" ? result.message : undefined }
  }

  async groupInfo(client) {
    const groupInfo = await this.mls.createGroupInfoWithExternalPubAndRatchetTree(client.state, [], client.cs)
    return this.encode({ wireformat: this.formats.groupInfo, version: this.version, groupInfo })
  }

  async external(client, bytes, resync) {
    const { groupInfo } = this.decode(bytes)
    const { publicMessage, newState } = await this.mls.joinGroupExternal(
      groupInfo,
      client.publicPackage,
      client.privatePackage,
      resync,
      client.cs,
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

  context(client) {
    return { cipherSuite: client.cs, authService: this.mls.unsafeTestingAuthenticationService }
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

  async join(client, bytes) {
    client.state = await this.mls.joinGroup({
      context: this.context(client),
      welcome: this.decode(bytes).welcome,
      keyPackage: client.publicPackage,
      privateKeys: client.privatePackage,
    })
  }

  async stage(client, proposals, wireAsPublicMessage = false) {
    const { newState, welcome, commit } = await this.mls.createCommit({
      context: this.context(client),
      state: client.state,
      extraProposals: proposals,
      wireAsPublicMessage,
      ratchetTreeExtension: true,
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
    const result = await this.mls.processMessage({
      context: this.context(client),
      state: client.state,
      message: this.decode(bytes),
      callback: this.mls.acceptAll,
    })
    return { next: result.newState, data: result.kind === "applicationMessage" ? result.message : undefined }
  }

  async groupInfo(client) {
    const groupInfo = await this.mls.createGroupInfoWithExternalPubAndRatchetTree(client.state, [], client.cs)
    return this.encode({ wireformat: this.formats.groupInfo, version: this.version, groupInfo })
  }

  async external(client, bytes, resync) {
    const { publicMessage, newState } = await this.mls.joinGroupExternal({
      context: this.context(client),
      groupInfo: this.decode(bytes).groupInfo,
      keyPackage: client.publicPackage,
      privateKeys: client.privatePackage,
      resync,
    })
    client.state = newState
    return this.encode({ wireformat: 1, version: this.version, publicMessage })
  }
}
