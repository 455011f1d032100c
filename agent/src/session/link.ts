import { hostname } from "node:os";
import { create } from "@bufbuild/protobuf";
import type { FoundCluster } from "@coppice/proto/gen/coppice/agent/v1/found_cluster";
import { HelloSchema } from "@coppice/proto/gen/coppice/agent/v1/session";
import { backoffMs } from "@coppice/proto/kit/backoff";
import { toFailure } from "@coppice/proto/kit/failure";
import { linkSignals } from "@coppice/proto/kit/race";
import { sleep } from "@coppice/proto/kit/sleep";
import type { Logger } from "pino";
import type { CommandRunner } from "../commands/runner.ts";
import type { Identity } from "./identity.ts";
import { openChannel } from "./channel.ts";
import { openInventoryReporter } from "./inventory.ts";
import type { Outbox } from "./outbox.ts";
import { type ControlMessage, holdSession } from "./session.ts";

/** What the link to the control plane is made with. */
export interface LinkOptions {
  readonly identity: Identity;
  readonly agentVersion: string;
  /** Random for each start of the process. */
  readonly bootId: string;
  readonly capabilities: readonly string[];
  readonly runner: CommandRunner;
  readonly discover: (signal: AbortSignal) => Promise<readonly FoundCluster[]>;
  /** Called with where reports go, and with undefined when there is nowhere. */
  readonly onOutbox: (outbox: Outbox | undefined) => void;
  readonly log: Logger;
}

const backoff = { baseMs: 500, capMs: 30_000 };
/** A session that lasted this long was no part of the same trouble. */
const settledMs = 10_000;

/** Keeps a session open, whatever happens, until the signal aborts; ends it then with a Goodbye and resolves. */
export async function keepLink(options: LinkOptions, signal: AbortSignal): Promise<void> {
  const { identity, log } = options;
  for (let attempt = 0, turn = 0; !signal.aborted; turn++) {
    const address = identity.addresses[turn % identity.addresses.length] ?? "";
    const startedMs = performance.now();
    try {
      const reason = await connect(options, address, signal);
      log.info({ address, reason }, "session ended");
    } catch (error) {
      if (signal.aborted) return;
      const { reason, message } = toFailure(error);
      // The whole error only where it is ours to explain.
      log.warn({ address, reason, ...(reason === "INTERNAL" ? { err: error } : {}) }, `session lost: ${message}`);
    }
    if (performance.now() - startedMs > settledMs) attempt = 0;
    // An abort ends the wait and the loop.
    await sleep(backoffMs(attempt++, backoff), signal).catch(() => undefined);
  }
}

async function connect(options: LinkOptions, address: string, signal: AbortSignal): Promise<string> {
  const { identity, agentVersion, bootId, capabilities, runner, discover, onOutbox, log } = options;
  using client = openChannel({ address, rootsPem: identity.trustedRootsPem, identity });
  using ending = linkSignals(signal);
  let outbox: Outbox | undefined;
  const inventory = openInventoryReporter({ discover, report: (message) => outbox?.put(message), log });
  let inventoryRun: Promise<void> | undefined;
  try {
    return await holdSession({
      client,
      address,
      signal,
      hello: create(HelloSchema, {
        agentVersion,
        bootId,
        capabilities: [...capabilities],
        inFlight: runner.inFlight(),
        machineName: hostname(),
      }),
      onWelcome(welcome, opened) {
        log.info({ address, host: welcome.hostId, epoch: String(welcome.sessionEpoch) }, "session begins");
        outbox = opened;
        onOutbox(opened);
        for (const message of runner.replay()) opened.put(message);
        inventoryRun = inventory.run(ending.signal);
      },
      onMessage: (message) => dispatch(message, runner, () => inventory.request()),
    });
  } finally {
    onOutbox(undefined);
    ending.abort();
    await inventoryRun;
  }
}

function dispatch(message: ControlMessage, runner: CommandRunner, requestInventory: () => void): void {
  switch (message.case) {
    case "command":
      return runner.begin(message.value);
    case "cancel":
      return runner.cancel(message.value);
    case "ack":
      return runner.acknowledge(message.value.commandId);
    case "inventoryRequest":
      return requestInventory();
    case "desiredState":
      // This version offers nothing that could be desired; its Hello says revision 0.
      return undefined;
  }
}
