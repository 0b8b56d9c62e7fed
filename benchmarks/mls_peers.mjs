// node mls_peers.mjs PEERS MAJOR: one round of one size and suite per line in, its times in milliseconds out.
// Times are taken here, so that nothing between the processes counts.

import readline from "node:readline"
import { load } from "../tests/interop/peers/adapter.mjs"

const peer = await load(process.argv[2], Number(process.argv[3]))
const pools = new Map()

async function timed(times, name, work) {
  const start = performance.now()
  const result = await work()
  times[name] = performance.now() - start
  return result
}

async function pool(suite, count) {
  const packages = pools.get(suite) ?? []
  pools.set(suite, packages)
  while (packages.length < count) {
    packages.push(peer.keyPackageMessage(await peer.client(suite, `member ${packages.length}`)))
  }
  return packages.slice(0, count)
}

async function round({ suite, members, messages, bytes }) {
  const times = {}
  const others = await pool(suite, members - 2)
  const [founder, joiner] = [await peer.client(suite, "founder"), await peer.client(suite, "joiner")]
  await peer.create(founder, new TextEncoder().encode("group"))
  const all = await timed(times, "add all", () =>
    peer.stage(founder, [...others, peer.keyPackageMessage(joiner)].map((each) => peer.add(each))),
  )
  founder.state = all.next
  await timed(times, "join", () => peer.join(joiner, all.welcome))
  await timed(times, "update", () => peer.stage(joiner, []))
  // version 2 makes no path for a single Remove, which section 12.4 demands: there it removes two
  const removes = members > 3 ? [peer.remove(1), ...(process.argv[3] === "2" ? [peer.remove(2)] : [])] : []
  const staged = await timed(times, members > 3 ? "remove" : "commit", () => peer.stage(joiner, removes))
  joiner.state = staged.next
  const processed = await timed(times, "process", () => peer.process(founder, staged.commit))
  founder.state = processed.next
  const data = new Uint8Array(bytes)
  const sent = []
  await timed(times, "protect", async () => {
    for (let count = 0; count < messages; count++) {
      const { next, message } = await peer.protect(joiner, data)
      joiner.state = next
      sent.push(message)
    }
  })
  await timed(times, "unprotect", async () => {
    for (const message of sent) founder.state = (await peer.process(founder, message)).next
  })
  times.protect /= messages
  times.unprotect /= messages
  delete times.commit
  return { times, sizes: { commit: all.commit.length, welcome: all.welcome.length, remove: staged.commit.length } }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await round(JSON.parse(line))) + "\n")
}
