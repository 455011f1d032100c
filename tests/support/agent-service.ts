import { randomUUID } from "node:crypto";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  AgentService,
  type EnrollRequest,
  EnrollRequestSchema,
  type EnrollResponse,
  EnrollResponseSchema,
} from "@coppice/proto/gen/coppice/agent/v1/agent_service";
import {
  type SessionRequest,
  SessionRequestSchema,
  type SessionResponse,
  SessionResponseSchema,
} from "@coppice/proto/gen/coppice/agent/v1/session";
import { formatEnrolmentToken } from "@coppice/proto/kit/enrolment-token";
import { certificateFingerprint } from "@coppice/proto/kit/tls";
import { type handleBidiStreamingCall, type handleUnaryCall, Server, ServerCredentials, status } from "@grpc/grpc-js";
import type { TestAuthority } from "./agent-authority.ts";

type ToAgent = NonNullable<MessageInitShape<typeof SessionResponseSchema>["message"]>;

/** One session as the control plane's end sees it. */
export interface ServedSession {
  /** What the agent has sent so far. */
  readonly received: SessionRequest[];
  readonly hasEnded: () => boolean;
  send(message: ToAgent): void;
  /** Ends it from this side with an error. */
  cut(): void;
}

/** The control plane's end of AgentService and nothing behind it, for tests of what the agent does when that end is odd. */
export interface ServedAgentService extends AsyncDisposable {
  readonly address: string;
  readonly sessions: ServedSession[];
  /** A token's line, for any host name. */
  readonly token: string;
}

const bytesOf = (bytes: Uint8Array) => Buffer.from(bytes);

/** Serves AgentService on a free port of 127.0.0.1; every session is welcomed with the heartbeat interval. */
export async function serveAgentService(
  authority: TestAuthority,
  { heartbeatMs }: { heartbeatMs: number },
): Promise<ServedAgentService> {
  const { chainPem, keyPem } = await authority.issueServer();
  const sessions: ServedSession[] = [];
  const secret = randomUUID();

  const enroll: handleUnaryCall<EnrollRequest, EnrollResponse> = ({ request }, answer) => {
    if (request.token !== secret) {
      answer({ code: status.UNAUTHENTICATED, details: "wrong token" });
      return;
    }
    authority.issueClient(request.csrPem).then(
      (certificateChainPem) => {
        const trustedRootsPem = [authority.rootPem];
        answer(null, create(EnrollResponseSchema, { hostId: "hst_test", certificateChainPem, trustedRootsPem }));
      },
      (error: unknown) => answer({ code: status.INTERNAL, details: String(error) }),
    );
  };

  const session: handleBidiStreamingCall<SessionRequest, SessionResponse> = (call) => {
    const received: SessionRequest[] = [];
    let hasEnded = false;
    const send = (message: ToAgent) => void call.write(create(SessionResponseSchema, { message }));
    const cut = () => call.emit("error", { code: status.UNAVAILABLE, details: "cut by the test" });
    sessions.push({ received, hasEnded: () => hasEnded, send, cut });
    call.on("data", (message: SessionRequest) => {
      received.push(message);
      if (message.message.case === "goodbye") call.end();
    });
    call.on("end", () => (hasEnded = true));
    call.on("cancelled", () => (hasEnded = true));
    const heartbeatInterval = durationFromMs(heartbeatMs);
    send({ case: "welcome", value: { hostId: "hst_test", sessionEpoch: BigInt(sessions.length), heartbeatInterval } });
  };

  const server = new Server();
  server.addService(
    {
      enroll: {
        path: `/${AgentService.typeName}/Enroll`,
        requestStream: false,
        responseStream: false,
        requestDeserialize: (bytes: Buffer) => fromBinary(EnrollRequestSchema, bytes),
        requestSerialize: (message: EnrollRequest) => bytesOf(toBinary(EnrollRequestSchema, message)),
        responseDeserialize: (bytes: Buffer) => fromBinary(EnrollResponseSchema, bytes),
        responseSerialize: (message: EnrollResponse) => bytesOf(toBinary(EnrollResponseSchema, message)),
      },
      session: {
        path: `/${AgentService.typeName}/Session`,
        requestStream: true,
        responseStream: true,
        requestDeserialize: (bytes: Buffer) => fromBinary(SessionRequestSchema, bytes),
        requestSerialize: (message: SessionRequest) => bytesOf(toBinary(SessionRequestSchema, message)),
        responseDeserialize: (bytes: Buffer) => fromBinary(SessionResponseSchema, bytes),
        responseSerialize: (message: SessionResponse) => bytesOf(toBinary(SessionResponseSchema, message)),
      },
    },
    { enroll, session },
  );
  const pair = { cert_chain: Buffer.from(chainPem), private_key: Buffer.from(keyPem) };
  // Enrolment comes without a certificate, so that one is asked for and not insisted on.
  const credentials = ServerCredentials.createSsl(Buffer.from(authority.rootPem), [pair], false);
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`127.0.0.1:0`, credentials, (error, number) => (error ? reject(error) : resolve(number)));
  });
  const address = `https://127.0.0.1:${bound}`;
  const ca = certificateFingerprint(authority.rootPem);
  return {
    address,
    sessions,
    token: formatEnrolmentToken({ addresses: [address], ca, host: "db7", secret }),
    async [Symbol.asyncDispose]() {
      server.forceShutdown();
    },
  };
}
