import { hostname } from "node:os";
import { create } from "@bufbuild/protobuf";
import type { DesiredState } from "@coppice/proto/gen/coppice/agent/v1/desired_state";
import { HelloSchema } from "@coppice/proto/gen/coppice/agent/v1/session";
import type { EndSegment, WalReport, WalReportAck } from "@coppice/proto/gen/coppice/agent/v1/wal_archive";
import { backoffMs } from "@coppice/proto/kit/backoff";
import { toFailure } from "@coppice/proto/kit/failure";
import { linkSignals } from "@coppice/proto/kit/race";
import { sleep } from "@coppice/proto/kit/sleep";
import type { Logger } from "pino";
import type { CommandRunner } from "../commands/runner.ts";
import type { Identity } from "./identity.ts";
import { openChannel } from "./channel.ts";
import { type Discover, oneLook, openInventoryReporter } from "./inventory.ts";
import type { Outbox } from "./outbox.ts";
import { type ControlMessage, holdSession } from "./session.ts";

/** What the agent keeps true by itself, as far as the control plane hears of it. */
export interface KeptState {
  /** Revision that is held; 0 is none. */
  readonly revision: bigint;
  take(page: DesiredState): void;
  acknowledge(ack: WalReportAck): void;
  /** Ends a segment of WAL that is archived here, which somebody waits for. */
  endSegment(asked: EndSegment): void;
  /** What is to be told of WAL archives and was not told yet. */
  reports(): readonly WalReport[];
  /** Has everything that is not acknowledged told again. */
  repeat(): void;
}

/** What the link to the control plane is made with. */
export interface LinkOptions {
  readonly identity: Identity;
  readonly agentVersion: string;
  /** Random for each start of the process. */
  readonly bootId: string;
  readonly capabilities: readonly string[];
  readonly runner: CommandRunner;
  readonly kept: KeptState;
  readonly discover: Discover;
  /** Called with where reports go, and with undefined when there is nowhere. */
  readonly onOutbox: (outbox: Outbox | undefined) => void;
  readonly log: Logger;
}

const backoff = { baseMs: 500, capMs: 30_000 };
/** A session that lasted this long was no part of the same trouble. */
const settledMs = 10_000;
const walReportMs = 1000;

/** Keeps a session open, whatever happens, until the signal aborts; ends it then with a Goodbye and resolves. */
export async function keepLink(options: LinkOptions, signal: AbortSignal): Promise<void> {
  const { identity, log } = options;
  // A look may outlive its session, and the next one must not wait for it.
  const discover = oneLook(options.discover, log, signal);
  for (let attempt = 0, turn = 0; !signal.aborted; turn++) {
    const address = identity.addresses[turn % identity.addresses.length] ?? "";
    const startedMs = performance.now();
    try {
      const reason = await connect({ ...options, discover }, address, signal);
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
  const { identity, agentVersion, bootId, capabilities, runner, kept, discover, onOutbox, log } = options;
  using client = openChannel({ address, rootsPem: identity.trustedRootsPem, identity });
  using ending = linkSignals(signal);
  let outbox: Outbox | undefined;
  const inventory = openInventoryReporter({ discover, report: (message) => outbox?.put(message), log });
  let inventoryRun: Promise<void> | undefined;
  let telling: NodeJS.Timeout | undefined;
  const tellOfWal = (to: Outbox) => {
    for (const value of kept.reports()) to.put({ case: "walReport", value });
  };
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
        desiredRevision: kept.revision,
      }),
      onWelcome(welcome, opened) {
        log.info({ address, host: welcome.hostId, epoch: String(welcome.sessionEpoch) }, "session begins");
        outbox = opened;
        onOutbox(opened);
        for (const message of runner.replay()) opened.put(message);
        inventoryRun = inventory.run(ending.signal);
        kept.repeat();
        tellOfWal(opened);
        telling = setInterval(() => tellOfWal(opened), walReportMs);
      },
      onMessage: (message) => dispatch(message, { runner, kept, requestInventory: () => inventory.request() }),
    });
  } finally {
    clearInterval(telling);
    onOutbox(undefined);
    ending.abort();
    await inventoryRun;
  }
}

function dispatch(
  message: ControlMessage,
  {
    runner,
    kept,
    requestInventory,
  }: { readonly runner: CommandRunner; readonly kept: KeptState; readonly requestInventory: () => void },
): void {
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
      return kept.take(message.value);
    case "walReportAck":
      return kept.acknowledge(message.value);
    case "endSegment":
      return kept.endSegment(message.value);
  }
}
