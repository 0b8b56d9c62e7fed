// node worker.mjs PEERS MAJOR: one JSON request per line in, one JSON answer per line out; bytes are hex.

import readline from "node:readline"
import { load } from "./adapter.mjs"

const peer = await load(process.argv[2], Number(process.argv[3]))
const clients = new Map()

const bytes = (hex) => new Uint8Array(Buffer.from(hex, "hex"))
const hex = (array) => Buffer.from(array).toString("hex")

const optional = (hex) => (hex === null ? undefined : bytes(hex))

const calls = {
  async new(request) {
    const client = await peer.client(request.suite, request.name)
    clients.set(request.client, client)
    return { message: hex(peer.keyPackageMessage(client)) }
  },
  async psk(request) {
    peer.psk(bytes(request.id), bytes(request.secret))
    return {}
  },
  async clear() {
    clients.clear()
    return {}
  },
  async create(request, client) {
    await peer.create(client, bytes(request.group))
    return {}
  },
  async join(request, client) {
    await peer.join(client, bytes(request.message), optional(request.tree))
    return {}
  },
  async commit(request, client) {
    const proposals = request.proposals.map((each) => peer.proposal(bytes(each)))
    const { next, commit, welcome } = await peer.stage(client, proposals, request.public, request.tree)
    client.state = next
    return { message: hex(commit), welcome: welcome ? hex(welcome) : null }
  },
  async propose(request, client) {
    return { message: hex(await peer.propose(client, peer.proposal(bytes(request.proposal)), request.public)) }
  },
  async protect(request, client) {
    const { next, message } = await peer.protect(client, bytes(request.data))
    client.state = next
    return { message: hex(message) }
  },
  async process(request, client) {
    const { next, data } = await peer.process(client, bytes(request.message))
    client.state = next
    return { data: data === undefined ? null : hex(data) }
  },
  async info(request, client) {
    const { epoch, authenticator, treeHash, index } = peer.info(client)
    return { epoch, authenticator: hex(authenticator), tree_hash: hex(treeHash), index }
  },
  async group_info(request, client) {
    return { message: hex(await peer.groupInfo(client, request.tree)) }
  },
  async external(request, client) {
    const { message, resync, tree } = request
    return { message: hex(await peer.external(client, bytes(message), resync, optional(tree))) }
  },
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  let answer
  try {
    answer = await calls[request.call](request, clients.get(request.client))
  } catch (error) {
    answer = { error: `${error?.name}: ${error?.message}` }
  }
  process.stdout.write(JSON.stringify(answer) + "\n")
}
