// Run as a program: keeps one cluster, its users and its shared gateway for as long as the process that asked for it
// lives, so that all files of a test run use the same one; then it removes everything, also after a kill.

import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { processMark } from "../server-folders.ts";
import { addUser, startCluster } from "./cluster.ts";
import { startGateway } from "./gateway.ts";

const [folder = "", owner = ""] = process.argv.slice(2);
const isWanted = async () => (await processMark(Number(owner.split("-")[0]))) === owner;
process.on("SIGINT", () => {});

try {
  await startCluster(folder);
  const [first, second] = [await addUser(folder, "lab"), await addUser(folder, "writer")];
  await using gateway = await startGateway(folder);
  const { endpoint, tlsEndpoint } = gateway;
  await say({ endpoint, tlsEndpoint, owner: first, writer: second });
  while (await isWanted()) await delay(500);
} catch (error) {
  await say({ error: String(error) });
  while (await isWanted()) await delay(500);
} finally {
  // The daemons die with this process; what they write until then does not matter.
  await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  // The daemons are its children and would keep it.
  process.kill(process.pid, "SIGKILL");
}

async function say(state: unknown): Promise<void> {
  await writeFile(join(folder, "lab.json.new"), JSON.stringify(state));
  await rename(join(folder, "lab.json.new"), join(folder, "lab.json"));
}
