import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2";
import { fromBinary } from "@bufbuild/protobuf";
import { FailureDetailSchema } from "@coppice/proto/gen/coppice/common/v1/failure";

/** The ways to send a request that are tried. */
export type Wire = "json" | "proto" | "grpc";

/** What came back, in one shape for all protocols. */
export interface Answer {
  readonly httpStatus: number;
  /** `ok`, or the code of Connect or gRPC in its Connect spelling; empty when the server spoke neither. */
  readonly code: string;
  readonly message: string;
  /** Reason in the FailureDetail; undefined without one. */
  readonly reason: string | undefined;
  /** Everything as text, to be searched. */
  readonly text: string;
  readonly milliseconds: number;
}

export interface RawCall {
  readonly path: string;
  readonly contentType: string;
  readonly body: Uint8Array;
  readonly token?: string | undefined;
}

/** One HTTP/2 connection on which anything can be sent. */
export interface RawClient extends AsyncDisposable {
  call(request: RawCall): Promise<Answer>;
}

/** How long a call may take. */
export const answerLimitMs = 5000;

const grpcCodes = [
  "ok",
  "canceled",
  "unknown",
  "invalid_argument",
  "deadline_exceeded",
  "not_found",
  "already_exists",
  "permission_denied",
  "resource_exhausted",
  "failed_precondition",
  "aborted",
  "out_of_range",
  "unimplemented",
  "internal",
  "unavailable",
  "data_loss",
  "unauthenticated",
];

interface ErrorJson {
  readonly code?: string;
  readonly message?: string;
  readonly details?: readonly { readonly type?: string; readonly value?: string }[];
}

/** Puts a message into the envelope of gRPC and of Connect's streams: flags and length. */
export function envelope(body: Uint8Array): Uint8Array {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.byteLength, 1);
  return Buffer.concat([head, body]);
}

/** Opens a connection. An answer that does not come in time is an error. */
export function openRawClient(address: string): RawClient {
  let session: ClientHttp2Session | undefined;
  const live = (): ClientHttp2Session => {
    if (session === undefined || session.destroyed || session.closed) {
      // By itself Node holds back new requests while 10 MB of refused ones are still to be sent.
      session = connect(address, { rejectUnauthorized: false, maxSessionMemory: 1000 });
      session.on("error", () => {});
    }
    return session;
  };
  return {
    call: (request) => call(live(), request),
    async [Symbol.asyncDispose]() {
      session?.destroy();
    },
  };
}

function call(session: ClientHttp2Session, { path, contentType, body, token }: RawCall): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const started = performance.now();
  const stream = session.request({
    ":method": "POST",
    ":path": `/${path}`,
    "content-type": contentType,
    "content-length": body.byteLength,
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(contentType.startsWith("application/grpc") ? { te: "trailers" } : {}),
  });
  const chunks: Buffer[] = [];
  let headers: IncomingHttpHeaders = {};
  let trailers: IncomingHttpHeaders = {};
  stream.on("response", (received: IncomingHttpHeaders) => void (headers = received));
  stream.on("trailers", (received: IncomingHttpHeaders) => void (trailers = received));
  stream.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
  });
  const timer = setTimeout(() => {
    reject(new Error(`${path} gave no answer within ${answerLimitMs} ms`));
    stream.close();
  }, answerLimitMs);
  const settle = () => {
    clearTimeout(timer);
    if (headers[":status"] === undefined) return reject(new Error(`${path} was closed without an answer`));
    const received = readAnswer(headers, trailers, Buffer.concat(chunks));
    resolve({ ...received, milliseconds: performance.now() - started });
    // What was refused before all of it was sent need not be sent.
    stream.close();
  };
  stream.on("error", (error: Error) => reject(new Error(`${path}: ${error.message}`)));
  stream.on("end", settle);
  stream.on("close", settle);
  stream.end(body);
  return promise;
}

function readAnswer(headers: IncomingHttpHeaders, trailers: IncomingHttpHeaders, body: Buffer) {
  const httpStatus = Number(headers[":status"]);
  const type = headers["content-type"] ?? "";
  const ending = { ...headers, ...trailers };
  const text = `${body.toString("latin1")} ${JSON.stringify(ending)}`;
  if (type.startsWith("application/grpc")) {
    const message = decodeURIComponent(String(ending["grpc-message"] ?? ""));
    const status = grpcCodes[Number(ending["grpc-status"])] ?? "";
    const reason = reasonInStatus(String(ending["grpc-status-details-bin"] ?? ""));
    return { httpStatus, code: status, message, reason, text: `${text} ${message}` };
  }
  if (type.startsWith("application/connect+")) {
    const { error } = readEnd(body);
    return { httpStatus, text, ...readError(error) };
  }
  if (httpStatus === 200) return { httpStatus, code: "ok", message: "", reason: undefined, text };
  const isError = type.startsWith("application/json") && body.length > 0;
  if (!isError) return { httpStatus, code: "", message: "", reason: undefined, text };
  return { httpStatus, text, ...readError(JSON.parse(body.toString()) as ErrorJson) };
}

/** The last envelope of a Connect stream, which holds the error if there was one. */
function readEnd(body: Buffer): { error?: ErrorJson } {
  for (let at = 0; at + 5 <= body.length; at += 5 + body.readUInt32BE(at + 1)) {
    if (((body[at] ?? 0) & 2) !== 0) return JSON.parse(body.toString("utf8", at + 5)) as { error?: ErrorJson };
  }
  return { error: { code: "", message: "the stream has no end" } };
}

function readError(error: ErrorJson | undefined) {
  if (error === undefined) return { code: "ok", message: "", reason: undefined };
  const detail = error.details?.find(({ type }) => type === FailureDetailSchema.typeName)?.value;
  const reason = detail && fromBinary(FailureDetailSchema, Buffer.from(detail, "base64")).reason;
  return { code: error.code ?? "", message: error.message ?? "", reason };
}

/** google.rpc.Status: field 3 holds an Any each: field 1 the type, field 2 the message. */
function reasonInStatus(header: string): string | undefined {
  const bytes = Buffer.from(header, "base64");
  const name = Buffer.from(`type.googleapis.com/${FailureDetailSchema.typeName}`);
  const at = bytes.indexOf(name);
  if (at < 0) return undefined;
  // After the name come the tag of the message and its length, then the message to the end: there is one detail.
  let start = at + name.length + 1;
  while (((bytes[start] ?? 0) & 0x80) !== 0) start += 1;
  return fromBinary(FailureDetailSchema, bytes.subarray(start + 1)).reason;
}
