import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { AgentService } from "@coppice/proto/gen/coppice/agent/v1/agent_service";
import {
  type Hello,
  type SessionRequest,
  SessionRequestSchema,
  type SessionResponse,
  type Welcome,
} from "@coppice/proto/gen/coppice/agent/v1/session";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { Failure, fail } from "@coppice/proto/kit/failure";
import { raceSignal } from "@coppice/proto/kit/race";
import type { Client, ClientDuplexStream, ServiceError } from "@grpc/grpc-js";
import type { AgentMessage } from "../commands/reporter.ts";
import { grpcMethod } from "./grpc-glue.ts";
import { openOutbox, type Outbox } from "./outbox.ts";
import { failureFromRpc } from "./rpc-failure.ts";

/** A message of the control plane, the first and the last of a session left out. */
export type ControlMessage = Exclude<
  SessionResponse["message"],
  { case: undefined } | { case: "welcome" } | { case: "heartbeat" } | { case: "goodbye" }
>;

/** What one session is made with. */
export interface SessionOptions {
  readonly client: Client;
  /** Its address, for messages. */
  readonly address: string;
  readonly hello: Hello;
  /** Called once the control plane has accepted the agent, with where messages to it go from now on. */
  readonly onWelcome: (welcome: Welcome, outbox: Outbox) => void;
  readonly onMessage: (message: ControlMessage) => void;
  /** Ends the session politely: what waits is sent, then Goodbye. */
  readonly signal: AbortSignal;
}

type Stream = ClientDuplexStream<SessionRequest, SessionResponse>;

const method = grpcMethod(AgentService.method.session);
const welcomeBoundMs = 15_000;
const goodbyeBoundMs = 3_000;
const defaultHeartbeatMs = 10_000;
const shortestHeartbeatMs = 50;
const missedHeartbeats = 2;

/**
 * Holds one session until it ends. Resolves with the reason of the control plane's Goodbye, or with "shutdown" after
 * our own; every other end is a Failure: CONTROL_PLANE_UNREACHABLE, CERTIFICATE_REFUSED and what else it answers.
 */
export async function holdSession({
  client,
  address,
  hello,
  onWelcome,
  onMessage,
  signal,
}: SessionOptions): Promise<string> {
  const ended = Promise.withResolvers<string>();
  const stream: Stream = client.makeBidiStreamRequest(method.path, method.serialize, method.deserialize);
  const watchdog = openWatchdog((silentMs) =>
    ended.reject(new Failure("CONTROL_PLANE_UNREACHABLE", `${address} was silent for ${silentMs} ms`)),
  );
  let epoch = 0n;
  let sequence = 0n;
  let isBlocked = false;
  let heartbeat: NodeJS.Timeout | undefined;

  const write = (message: AgentMessage) => {
    sequence++;
    isBlocked = !stream.write(create(SessionRequestSchema, { sequence, sessionEpoch: epoch, message }));
  };
  const next = () => (epoch === 0n || isBlocked ? undefined : outbox.take());
  const pump = () => {
    for (let message = next(); message; message = next()) write(message);
  };
  const outbox = openOutbox(pump);
  const begin = (welcome: Welcome) => {
    if (epoch !== 0n) fail("INTERNAL", "the control plane sent a second Welcome");
    epoch = welcome.sessionEpoch;
    const givenMs = welcome.heartbeatInterval ? durationMs(welcome.heartbeatInterval) : defaultHeartbeatMs;
    const intervalMs = Math.max(shortestHeartbeatMs, givenMs);
    watchdog.expectEvery(missedHeartbeats * intervalMs);
    heartbeat = setInterval(() => outbox.put({ case: "heartbeat", value: { time: timestampNow() } }), intervalMs);
    onWelcome(welcome, outbox);
    pump();
  };

  stream.on("data", ({ message }: SessionResponse) => {
    watchdog.heard();
    try {
      if (message.case === "welcome") begin(message.value);
      else if (message.case === "goodbye") ended.resolve(message.value.reason);
      else if (message.case !== undefined && message.case !== "heartbeat") onMessage(message);
    } catch (error) {
      ended.reject(error);
    }
  });
  stream.on("drain", () => {
    isBlocked = false;
    pump();
  });
  // Listens until the end: the cancel below is reported as an error too.
  stream.on("error", (error: ServiceError) => ended.reject(failureFromRpc(error, address)));
  stream.on("end", () =>
    ended.reject(new Failure("CONTROL_PLANE_UNREACHABLE", `${address} ended the session without a goodbye`)),
  );

  try {
    watchdog.expectEvery(welcomeBoundMs);
    write({ case: "hello", value: hello });
    try {
      return await raceSignal(ended.promise, signal);
    } catch (error) {
      if (!signal.aborted || epoch === 0n) throw error;
      outbox.put({ case: "goodbye", value: { reason: "shutdown" } });
      await sayGoodbye(stream, outbox);
      return "shutdown";
    }
  } finally {
    clearInterval(heartbeat);
    watchdog[Symbol.dispose]();
    stream.cancel();
  }
}

/** Waits until all is written and the other side has ended the call, but not for long. */
async function sayGoodbye(stream: Stream, outbox: Outbox): Promise<void> {
  const done = Promise.withResolvers<void>();
  const timer = setTimeout(done.resolve, goodbyeBoundMs);
  const endWhenWritten = () => {
    if (outbox.size === 0) stream.end();
  };
  stream.on("drain", endWhenWritten);
  stream.on("status", () => done.resolve());
  endWhenWritten();
  await done.promise;
  clearTimeout(timer);
}

interface Watchdog extends Disposable {
  heard(): void;
  expectEvery(ms: number): void;
}

/** Barks when nothing was heard for as long as was said. */
function openWatchdog(bark: (silentMs: number) => void): Watchdog {
  let boundMs = 0;
  let timer: NodeJS.Timeout | undefined;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => bark(boundMs), boundMs);
  };
  return {
    heard,
    expectEvery(ms) {
      boundMs = ms;
      heard();
    },
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
