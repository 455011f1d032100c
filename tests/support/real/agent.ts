import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Readable } from "node:stream";
import { HostService, HostState } from "@coppice/proto/gen/coppice/control/v1/host";
import { runAgent } from "../../../agent/src/app.ts";
import { enrolAgent } from "../../../agent/src/enroll.ts";
import type { ControlPlaneLab } from "../control-plane-lab.ts";

/** Enrols the agent as a host of that name and runs it in this process, until disposed; returns once it is connected. */
export async function openRealAgent(lab: ControlPlaneLab, hostName: string): Promise<AsyncDisposable> {
  const folder = await mkdtemp(join(tmpdir(), "coppice-real-agent-"));
  const config = { dataDirectory: join(folder, "agent"), logLevel: "silent" } as const;
  const controller = new AbortController();
  const { token } = await lab.client(HostService).createEnrolment({ hostName });
  await enrolAgent({ config, replace: false, input: Readable.from([token]) }, controller.signal);
  const running = runAgent(config, controller.signal);
  const end = async () => {
    controller.abort();
    await running;
    await rm(folder, { recursive: true, force: true });
  };
  const deadline = performance.now() + 20_000;
  for (;;) {
    const { state } = await lab.client(HostService).getHost({ host: hostName });
    if (state === HostState.CONNECTED) return { [Symbol.asyncDispose]: end };
    if (performance.now() > deadline) {
      await end();
      throw new Error(`the agent of ${hostName} did not connect`);
    }
    await delay(20);
  }
}
