/** What an error of a request to S3 tells, whatever its shape. */
export interface ErrorFacts {
  /** The server's name for it (NoSuchKey), or the operating system's (ECONNRESET); "" when it has none. */
  readonly code: string;
  /** Status of the answer; undefined when there was none. */
  readonly status: number | undefined;
  /** Region that the server says the bucket is in. */
  readonly region: string | undefined;
}

/** Reads an error of the SDK, of a socket or of a time-out; undefined for anything else, which is a bug or a body's. */
export function errorFacts(error: unknown): ErrorFacts | undefined {
  if (!(error instanceof Error)) return undefined;
  const { $metadata, $response } = error as { $metadata?: unknown; $response?: unknown };
  const status = numberIn($metadata, "httpStatusCode") ?? numberIn($response, "statusCode");
  const socketCode = textIn(error, "code");
  if (status === undefined) {
    const code = socketCode ?? error.name;
    const isOfTheWire = socketCode !== undefined || code === "TimeoutError" || code === "CredentialsProviderError";
    return isOfTheWire ? { code, status, region: undefined } : undefined;
  }
  const headers: unknown = typeof $response === "object" && $response ? Reflect.get($response, "headers") : undefined;
  const region = textIn(error, "Region") ?? textIn(headers, "x-amz-bucket-region");
  // A HEAD has no body that could name the error, and the SDK then makes up names.
  const isNamed = !/^(\d+|Unknown\w*|UnknownError|Error|NotFound|Forbidden|BadRequest|SyntaxError)$/.test(error.name);
  return { code: isNamed ? error.name : "", status, region };
}

function numberIn(value: unknown, name: string): number | undefined {
  const found: unknown = typeof value === "object" && value ? Reflect.get(value, name) : undefined;
  return typeof found === "number" ? found : undefined;
}

function textIn(value: unknown, name: string): string | undefined {
  const found: unknown = typeof value === "object" && value ? Reflect.get(value, name) : undefined;
  return typeof found === "string" && found !== "" ? found : undefined;
}

const passing = new Set([
  "BadDigest",
  "ConcurrentModification",
  "ConditionalRequestConflict",
  "EAI_AGAIN",
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EPIPE",
  "ERR_STREAM_PREMATURE_CLOSE",
  "ETIMEDOUT",
  "IncompleteBody",
  "InternalError",
  "OperationAborted",
  "RequestTimeout",
  "ServiceUnavailable",
  "SlowDown",
  "Throttling",
  "TimeoutError",
  "TooManyRequestsException",
]);

/** Whether the same request may succeed in a moment. */
export function isPassing({ code, status }: ErrorFacts): boolean {
  return (
    passing.has(code) || status === 429 || status === 408 || (status !== undefined && status >= 500 && status !== 501)
  );
}

/** Whether the request may have been carried out although no answer came. */
export function isAnswerLost({ status }: ErrorFacts): boolean {
  return status === undefined || status >= 500;
}
