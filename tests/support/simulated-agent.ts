import { randomUUID } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { AgentService } from "@coppice/proto/gen/coppice/agent/v1/agent_service";
import type { Command, ResultSchema } from "@coppice/proto/gen/coppice/agent/v1/command";
import type { CommandInFlightSchema, SessionResponse } from "@coppice/proto/gen/coppice/agent/v1/session";
import { SessionRequestSchema } from "@coppice/proto/gen/coppice/agent/v1/session";
import { Queue } from "../../control-plane/src/fleet/queue.ts";
import type { StatusObject } from "@grpc/grpc-js";
import { openChannel } from "../../agent/src/session/channel.ts";
import { grpcMethod } from "../../agent/src/session/grpc-glue.ts";
import type { Identity } from "../../agent/src/session/identity.ts";

type Incoming = SessionResponse["message"];
type IncomingCase = NonNullable<Incoming["case"]>;
type ValueOf<C extends IncomingCase> = Extract<Incoming, { case: C }>["value"];
type Outgoing = NonNullable<MessageInitShape<typeof SessionRequestSchema>["message"]>;
type ResultInit = MessageInitShape<typeof ResultSchema>;

/** An agent that speaks the protocol and does nothing else: what it answers, the test decides. */
export interface SimulatedAgent extends Disposable {
  readonly bootId: string;
  /** Epoch of the session, 0 before Welcome. */
  readonly epoch: bigint;
  /** The next message of that case; others that come before it are dropped. */
  next<C extends IncomingCase>(wanted: C): Promise<ValueOf<C>>;
  send(message: Outgoing): void;
  /** The same, with a number and an epoch of the test's choice. */
  sendRaw(request: MessageInitShape<typeof SessionRequestSchema>): void;
  /** Says that the command begins. */
  accept(command: Command): void;
  /** Says how the command ended. */
  answer(
    command: Command,
    result: Omit<ResultInit, "$typeName" | "commandId" | "operationId" | "attempt" | "fence">,
  ): void;
  /** Stops sending signs of life, as a stopped process would. */
  freeze(): void;
  /** Ends the call without a goodbye. */
  cut(): void;
  /** How the call ended. */
  readonly status: Promise<StatusObject>;
}

/** What an agent brings along. */
export interface SimulatedAgentOptions {
  readonly identity: Identity;
  readonly address: string;
  readonly bootId?: string;
  readonly inFlight?: readonly MessageInitShape<typeof CommandInFlightSchema>[];
  readonly capabilities?: readonly string[];
  /** Revision of the desired state that it has. */
  readonly desiredRevision?: bigint;
  readonly heartbeatMs: number;
}

const everything = [
  "checkCluster",
  "checkRepository",
  "backupDump",
  "verifyBackup",
  "planRestore",
  "restoreDatabase",
  "restoreGlobals",
  "deleteBackup",
  "backupPhysical",
  "restorePhysical",
  "planPhysical",
  "verifyWal",
  "cleanWal",
  "scanRepository",
  "recoverPart",
  "planPart",
  "decideRestore",
  "walArchive",
  "settle",
];

/** Opens a session and introduces itself. It has not necessarily been let in when this returns. */
export function openSimulatedAgent(options: SimulatedAgentOptions): SimulatedAgent {
  const { identity, address, bootId = randomUUID(), inFlight = [], capabilities = everything, heartbeatMs } = options;
  const { desiredRevision = 0n } = options;
  const channel = openChannel({ address, rootsPem: identity.trustedRootsPem, identity });
  const method = grpcMethod(AgentService.method.session);
  const call = channel.makeBidiStreamRequest(method.path, method.serialize, method.deserialize);
  const incoming = new Queue<SessionResponse>(1000);
  const { promise: status, resolve: endWith } = Promise.withResolvers<StatusObject>();
  let epoch = 0n;
  let sequence = 0n;
  let heartbeats: NodeJS.Timeout | undefined;
  const messages = incoming[Symbol.asyncIterator]();
  const send = (message: Outgoing) => {
    sequence += 1n;
    call.write(create(SessionRequestSchema, { sequence, sessionEpoch: epoch, message }));
  };
  call.on("data", (received: SessionResponse) => {
    if (received.message.case === "welcome") {
      epoch = received.message.value.sessionEpoch;
      heartbeats = setInterval(() => send({ case: "heartbeat", value: {} }), heartbeatMs);
    }
    incoming.offer(received);
  });
  call.on("error", () => {});
  call.on("status", (ended: StatusObject) => {
    clearInterval(heartbeats);
    incoming.close();
    endWith(ended);
  });
  send({
    case: "hello",
    value: {
      agentVersion: "0.0.0-test",
      bootId,
      capabilities: [...capabilities],
      inFlight: [...inFlight],
      machineName: "lab",
      desiredRevision,
    },
  });
  return {
    bootId,
    get epoch() {
      return epoch;
    },
    async next(wanted) {
      for (;;) {
        const { value: received, done } = await messages.next();
        if (done === true) throw new Error(`the session ended before ${wanted}: ${(await status).details}`);
        const { message } = received;
        // A union of cases does not remember that the value belongs to the case that was just compared.
        if (message.case === wanted) return message.value as ValueOf<typeof wanted>;
      }
    },
    send,
    sendRaw: (request) => void call.write(create(SessionRequestSchema, request)),
    accept: ({ commandId, operationId, fence }) =>
      send({ case: "accepted", value: { commandId, operationId, ...(fence ? { fence } : {}) } }),
    answer: ({ commandId, operationId, attempt, fence }, result) =>
      send({ case: "result", value: { commandId, operationId, attempt, ...(fence ? { fence } : {}), ...result } }),
    freeze: () => clearInterval(heartbeats),
    cut: () => call.cancel(),
    status,
    [Symbol.dispose]() {
      clearInterval(heartbeats);
      call.cancel();
      channel.close();
    },
  };
}
