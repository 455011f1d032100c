// One session from its first message to its last: long because how it can end (goodbye, silence, loss, removal, our own
// shutdown) and what is noted about it must be decided in one place.
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampNow } from "@bufbuild/protobuf/wkt";
import { InventoryRequestSchema } from "@coppice/proto/gen/coppice/agent/v1/inventory";
import {
  GoodbyeSchema,
  HeartbeatSchema,
  type Hello,
  type SessionRequest,
  type SessionResponse,
  SessionResponseSchema,
  WelcomeSchema,
} from "@coppice/proto/gen/coppice/agent/v1/session";
import { Failure, fail, isFailure } from "@coppice/proto/kit/failure";
import { Queue } from "./queue.ts";
import { raceSignal } from "@coppice/proto/kit/race";
import { sleep } from "@coppice/proto/kit/sleep";
import type { Logger } from "pino";
import type { Catalog } from "../catalog/catalog.ts";
import {
  acceptSession,
  isPresentSession,
  nextSessionEpoch,
  noteAlive,
  noteSessionEnd,
} from "../catalog/fleet/session.ts";
import type { Notices } from "../catalog/notices.ts";
import type { AgentInstruction, AgentSession } from "./agent-session.ts";
import type { FleetCallbacks } from "./fleet.ts";
import type { PeerIdentity } from "./peer.ts";

/** What a session is run with. */
export interface SessionOptions {
  readonly catalog: Catalog;
  readonly callbacks: FleetCallbacks;
  readonly log: Logger;
  readonly heartbeatMs: number;
  /** Of the channel coppice_host. */
  readonly hostNotices: Notices;
  readonly identity: PeerIdentity;
  readonly requests: AsyncIterable<SessionRequest>;
  /** Aborted when the connection is gone. */
  readonly signal: AbortSignal;
  /** Aborted when the control plane ends. */
  readonly closing: AbortSignal;
}

/** A session that runs. */
export interface RunningSession {
  readonly responses: AsyncIterable<SessionResponse>;
  /** Resolves when it has ended and that was noted; never rejects. */
  readonly done: Promise<void>;
}

/** Why a session ended: what becomes of the host's state, and what the agent is told. */
type SessionEnd =
  | { readonly is: "goodbye"; readonly reason: string }
  | { readonly is: "lost"; readonly reason: string }
  /** We ended it: the host was removed, a newer session has replaced it, the control plane ends. */
  | { readonly is: "dismissed"; readonly reason: string };

class Ended extends Error {
  readonly end: SessionEnd;
  constructor(end: SessionEnd) {
    super(end.reason);
    this.end = end;
  }
}

const helloMs = 10_000;
const outboxCapacity = 64;
const inboxCapacity = 64;

/** Runs a session. It lives by itself: whoever reads the responses slowly, or no more, does not keep it alive. */
export async function runSession(options: SessionOptions): Promise<RunningSession> {
  const { catalog, identity, heartbeatMs } = options;
  const epoch = await nextSessionEpoch(catalog.db);
  const outbox = new Queue<SessionResponse>(outboxCapacity);
  // At once: the headers leave with the first message, and until then the agent cannot know that it was let in.
  outbox.offer(
    response({
      case: "welcome",
      value: create(WelcomeSchema, {
        hostId: identity.hostId,
        catalogIncarnation: catalog.incarnation,
        sessionEpoch: epoch,
        heartbeatInterval: durationFromMs(heartbeatMs),
      }),
    }),
  );
  const done = new Session(options, epoch, outbox).run();
  return { responses: outbox, done };
}

class Session {
  readonly #options: SessionOptions;
  readonly #epoch: bigint;
  readonly #outbox: Queue<SessionResponse>;
  readonly #inbox = new Queue<SessionRequest>(inboxCapacity);
  readonly #ending = new AbortController();
  readonly #log: Logger;
  #heardAtMs = performance.now();
  #sequence = 0n;

  constructor(options: SessionOptions, epoch: bigint, outbox: Queue<SessionResponse>) {
    this.#options = options;
    this.#epoch = epoch;
    this.#outbox = outbox;
    const { hostId, hostName } = options.identity;
    this.#log = options.log.child({ host: hostId, hostName, epoch: epoch.toString() });
  }

  async run(): Promise<void> {
    const { closing } = this.#options;
    const close = () => this.#end({ is: "dismissed", reason: "shutdown" });
    closing.addEventListener("abort", close, { once: true });
    if (closing.aborted) close();
    const reading = this.#read();
    const tasks: Promise<void>[] = [];
    let session: AgentSession | undefined;
    let error: unknown;
    try {
      const hello = await this.#readHello();
      session = await this.#begin(hello);
      // Before anything is sent, so that work which the agent no longer knows is found first.
      await this.#options.callbacks.onHello(session, hello);
      tasks.push(this.#keepAlive(), this.#watchHost(), this.#options.callbacks.serve(session));
      for (const task of tasks) task.catch((taskError: unknown) => this.#abort(taskError));
      await this.#process(session);
    } catch (caught) {
      error = caught;
    }
    closing.removeEventListener("abort", close);
    await this.#finish(session !== undefined, error, [reading, ...tasks]);
  }

  #end(end: SessionEnd): void {
    this.#abort(new Ended(end));
  }

  #abort(reason: unknown): void {
    if (this.#ending.signal.aborted) return;
    this.#ending.abort(reason);
    this.#inbox.fail(reason);
  }

  /** Takes the agent's messages in, so that a slow catalog is not taken for a silent agent. */
  async #read(): Promise<void> {
    const { requests, signal } = this.#options;
    const messages = requests[Symbol.asyncIterator]();
    const over = AbortSignal.any([signal, this.#ending.signal]);
    try {
      for (;;) {
        const next = await raceSignal(messages.next(), over);
        if (next.done === true) break;
        this.#heardAtMs = performance.now();
        await this.#inbox.push(next.value, over);
      }
    } catch (error) {
      if (!over.aborted) this.#log.info({ err: error }, "connection to the agent broke");
    }
    // What came in before the end still counts: the last message may be a goodbye.
    this.#inbox.close();
  }

  async #readHello(): Promise<Hello> {
    const timer = setTimeout(() => {
      this.#abort(new Failure("DEADLINE_EXCEEDED", "the agent did not introduce itself in time"));
    }, helloMs);
    try {
      const { value: first } = await raceSignal(this.#inbox[Symbol.asyncIterator]().next(), this.#ending.signal);
      if (first === undefined) throw new Ended({ is: "lost", reason: "the agent ended before it introduced itself" });
      if (first.message.case !== "hello") {
        return fail("INVALID_FIELD", "the first message of a session is not hello", {
          fields: [{ field: "message", expected: "hello" }],
        });
      }
      this.#sequence = first.sequence;
      return first.message.value;
    } finally {
      clearTimeout(timer);
    }
  }

  async #begin(hello: Hello): Promise<AgentSession> {
    const { identity, callbacks } = this.#options;
    const { hostId, hostName } = identity;
    const { bootId, agentVersion, machineName, capabilities, desiredRevision } = hello;
    await this.#becomePresent(hello);
    this.#log.info({ bootId, agentVersion, machineName }, "agent connected");
    await callbacks.onStateChange(hostId);
    return {
      hostId,
      hostName,
      epoch: this.#epoch,
      capabilities: new Set(capabilities),
      agentVersion,
      desiredRevision,
      signal: this.#ending.signal,
      send: (message) => this.#outbox.push(response(message), this.#ending.signal),
    };
  }

  /**
   * An agent that was killed and started again may be here before the end of its connection is known: only another
   * process that is heard while this one waits is a second one.
   */
  async #becomePresent({ bootId, agentVersion, machineName, capabilities }: Hello): Promise<void> {
    const { catalog, identity, heartbeatMs } = this.#options;
    const { hostId, hostName, fingerprint } = identity;
    const beganMs = performance.now();
    for (;;) {
      const acceptance = await catalog.transaction((tx) =>
        acceptSession(tx, {
          hostId,
          fingerprint,
          epoch: this.#epoch,
          bootId,
          agentVersion,
          machineName,
          capabilities,
          silentMs: 2 * heartbeatMs,
          askedMs: performance.now() - beganMs,
        }),
      );
      if (acceptance === "accepted") return;
      if (acceptance === "removed") fail("CERTIFICATE_REFUSED", `${hostName} was removed or revoked`);
      if (acceptance === "outdated") fail("CERTIFICATE_REFUSED", `${hostName} has a newer session or certificate`);
      if (acceptance === "cloned") {
        this.#log.warn({ bootId, machineName }, "a second live agent with the same certificate was refused");
        fail("AGENT_CLONED", `another agent that uses the certificate of ${hostName} is connected`);
      }
      await sleep(Math.min(heartbeatMs / 4, 500), this.#ending.signal);
    }
  }

  async #process(session: AgentSession): Promise<void> {
    for await (const { sequence, sessionEpoch, message } of this.#inbox) {
      if (sessionEpoch !== this.#epoch) {
        this.#log.warn({ sessionEpoch: sessionEpoch.toString(), message: message.case }, "stale message ignored");
        continue;
      }
      if (sequence !== this.#sequence + 1n) {
        this.#log.warn({ sequence: sequence.toString(), after: this.#sequence.toString() }, "messages are missing");
        await session.send({ case: "inventoryRequest", value: create(InventoryRequestSchema) });
      }
      this.#sequence = sequence;
      await this.#take(session, message);
    }
    throw new Ended({ is: "lost", reason: "the session ended without a goodbye" });
  }

  async #take(session: AgentSession, message: SessionRequest["message"]): Promise<void> {
    switch (message.case) {
      case "heartbeat":
        return await this.#noteAlive(session.hostId);
      case "goodbye":
        throw new Ended({ is: "goodbye", reason: message.value.reason });
      case "hello":
        return fail("INVALID_FIELD", "the agent introduced itself twice", {
          fields: [{ field: "message", expected: "no second hello" }],
        });
      case undefined:
        // Of a newer agent: what we do not know, we leave alone.
        return;
      default:
        return await this.#options.callbacks.onReport(session, message);
    }
  }

  async #noteAlive(hostId: string): Promise<void> {
    const { catalog, callbacks } = this.#options;
    const meaning = await noteAlive(catalog.db, hostId, this.#epoch);
    if (meaning === "replaced") throw new Ended({ is: "dismissed", reason: "replaced" });
    if (meaning === "known") return;
    this.#log.warn("agent is back: its signs of life were late");
    await callbacks.onStateChange(hostId);
  }

  /** Sends signs of life and misses those of the agent: two missed ones, and it is lost. */
  async #keepAlive(): Promise<void> {
    const { heartbeatMs } = this.#options;
    const tickMs = heartbeatMs / 8;
    let sentAtMs = 0;
    let tickedAtMs = performance.now();
    for (;;) {
      await sleep(tickMs, this.#ending.signal);
      const nowMs = performance.now();
      // When we were held up ourselves, what the agent sent may be waiting to be read.
      const wasHeldUp = nowMs - tickedAtMs > heartbeatMs / 2;
      tickedAtMs = nowMs;
      const isSilent = nowMs - this.#heardAtMs > 2 * heartbeatMs - tickMs && this.#inbox.size === 0;
      if (isSilent && !wasHeldUp) {
        this.#end({ is: "lost", reason: "the agent was silent for two heartbeats" });
        return;
      }
      if (nowMs - sentAtMs < heartbeatMs) continue;
      sentAtMs = nowMs;
      // A full outbox is one that the agent does not read; it is lost by its own silence.
      this.#outbox.offer(response({ case: "heartbeat", value: create(HeartbeatSchema, { time: timestampNow() }) }));
    }
  }

  /** Ends the session when its host was removed or has a newer one. */
  async #watchHost(): Promise<void> {
    const { catalog, hostNotices, identity, heartbeatMs } = this.#options;
    using changes = hostNotices.subscribe(identity.hostId);
    for (;;) {
      await changes.next(heartbeatMs, this.#ending.signal);
      if (await isPresentSession(catalog.db, identity.hostId, this.#epoch)) continue;
      this.#end({ is: "dismissed", reason: "revoked or replaced" });
      return;
    }
  }

  async #finish(hasBegun: boolean, error: unknown, tasks: readonly Promise<void>[]): Promise<void> {
    // The first reason is the true one; what fails afterwards is its consequence.
    const reason: unknown = this.#ending.signal.aborted ? this.#ending.signal.reason : error;
    this.#abort(reason);
    const end: SessionEnd =
      reason instanceof Ended ? reason.end : { is: "lost", reason: "the session ended with an error" };
    if (reason instanceof Ended) {
      this.#log.info({ end: end.is, reason: end.reason }, "session ended");
      this.#outbox.offer(response({ case: "goodbye", value: create(GoodbyeSchema, { reason: end.reason }) }));
      this.#outbox.close();
    } else {
      this.#log[isFailure(reason) ? "warn" : "error"]({ err: reason }, "session failed");
      this.#outbox.fail(reason);
    }
    await Promise.allSettled(tasks);
    if (hasBegun) await this.#note(end);
  }

  async #note(end: SessionEnd): Promise<void> {
    // Of our own end the agent's state does not follow: it comes back to another replica or to the next start.
    if (end.is === "dismissed") return;
    const { catalog, callbacks, identity } = this.#options;
    const { hostId } = identity;
    const state = end.is === "goodbye" ? "STOPPED" : "UNKNOWN";
    try {
      const isNoted = await catalog.transaction((tx) => noteSessionEnd(tx, { hostId, epoch: this.#epoch, state }));
      if (isNoted) await callbacks.onStateChange(hostId);
    } catch (error) {
      // The host stays CONNECTED until the sweep of silent hosts finds it.
      this.#log.error({ err: error }, "the end of the session could not be noted");
    }
  }
}

function response(message: AgentInstruction): SessionResponse {
  return create(SessionResponseSchema, { message });
}
