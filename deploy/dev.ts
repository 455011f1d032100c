import { mkdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { openInstallation } from "../tests/support/installation.ts";

const folder = join(dirname(import.meta.dirname), ".coppice/dev/run");
await rm(folder, { recursive: true, force: true });
await mkdir(folder, { recursive: true });
const stopped = new Promise<void>((resolve) => {
  process.once("SIGINT", resolve);
  process.once("SIGTERM", resolve);
});
await using cop = await openInstallation({ folder, heartbeat: "10s" });
await cop.addAgent("dev");
const bin = join(folder, "../usr/bin");
process.stdout.write(`export PATH=${bin}:$PATH
export COPPICE_ADDRESS=${cop.address} COPPICE_CA_FINGERPRINT=${cop.caFingerprint}
export COPPICE_TOKEN=${cop.adminToken}
# logs: ${folder}/*.log; Ctrl-C ends and removes everything
`);
await stopped;
