import type { Hello, SessionRequest, SessionResponse } from "@coppice/proto/gen/coppice/agent/v1/session";
import { linkSignals } from "@coppice/proto/kit/race";
import { sleep } from "@coppice/proto/kit/sleep";
import type { Logger } from "pino";
import type { Catalog } from "../catalog/catalog.ts";
import { noteSilentHosts } from "../catalog/fleet/session.ts";
import { openNotices } from "../catalog/notices.ts";
import type { AgentSession } from "./agent-session.ts";
import { admitPeer, type PeerCertificate } from "./peer.ts";
import { runSession } from "./session.ts";

/** What an agent tells in the course of a session. */
export type AgentReport = Exclude<SessionRequest["message"], { case: undefined | "hello" | "heartbeat" | "goodbye" }>;

/** What the rest of the control plane does about sessions. A callback that fails ends the session. */
export interface FleetCallbacks {
  /** A session has begun; nothing that the agent tells is handed on before this has resolved. */
  onHello(session: AgentSession, hello: Hello): Promise<void>;
  /** Runs as long as the session; its signal ends it. */
  serve(session: AgentSession): Promise<void>;
  /** One report after the other. */
  onReport(session: AgentSession, report: AgentReport): Promise<void>;
  /** The host's agent came or went. */
  onStateChange(hostId: string): Promise<void>;
}

/** What a fleet is run with. */
export interface FleetOptions {
  readonly catalog: Catalog;
  readonly callbacks: FleetCallbacks;
  readonly log: Logger;
  /** Pause between signs of life; an agent that is silent for two of them is lost. */
  readonly heartbeatMs: number;
}

/** The live sessions of this replica. Disposing says goodbye to every agent. */
export interface Fleet extends AsyncDisposable {
  /** Serves one session, from the agent's messages to those for it. Errors: CERTIFICATE_REFUSED, AGENT_CLONED. */
  session(
    requests: AsyncIterable<SessionRequest>,
    peer: PeerCertificate | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<SessionResponse>;
}

/** Opens the fleet: serves sessions, and notes hosts whose replica was lost together with their sessions. */
export async function openFleet(options: FleetOptions): Promise<Fleet> {
  const { catalog, callbacks, log, heartbeatMs } = options;
  await using opening = new AsyncDisposableStack();
  const hostNotices = opening.use(await openNotices(catalog, "coppice_host"));
  // Before anybody can ask: who was connected when the last replica ended need not be any more.
  await noteLostHosts(options);
  const closing = new AbortController();
  const running = new Set<Promise<void>>();
  opening.defer(async () => {
    closing.abort(new Error("the control plane ends"));
    await Promise.allSettled(running);
  });
  const forget = async (done: Promise<void>) => {
    await done;
    running.delete(done);
  };
  const sweeping = sweep(options, closing.signal);
  running.add(sweeping);
  const resources = opening.move();
  return {
    async *session(requests, peer, signal) {
      const identity = await admitPeer(catalog.db, peer, new Date());
      using gone = linkSignals(signal);
      const { responses, done } = await runSession({
        catalog,
        callbacks,
        log,
        heartbeatMs,
        hostNotices,
        identity,
        requests,
        signal: gone.signal,
        closing: closing.signal,
      });
      running.add(done);
      void forget(done);
      try {
        yield* responses;
      } finally {
        // Whoever carried the responses has left: there is no connection any more.
        gone.abort(new Error("the connection is gone"));
      }
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

async function sweep(options: FleetOptions, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await sleep(options.heartbeatMs, signal);
      await noteLostHosts(options);
    } catch (error) {
      if (signal.aborted) return;
      options.log.error({ err: error }, "silent hosts could not be looked for");
    }
  }
}

async function noteLostHosts({ catalog, callbacks, log, heartbeatMs }: FleetOptions): Promise<void> {
  // A little later than whoever holds the session would notice: that one knows more.
  const lost = await catalog.transaction((tx) => noteSilentHosts(tx, heartbeatMs * 3));
  for (const hostId of lost) {
    log.warn({ host: hostId }, "agent lost: nobody has heard of it");
    await callbacks.onStateChange(hostId);
  }
}
