import type { DescField, DescMessage, MessageShape } from "@bufbuild/protobuf";
import { pathToString, reflect, type ReflectMessage } from "@bufbuild/protobuf/reflect";
import { createValidator, type Validator, type Violation } from "@bufbuild/protovalidate";
import type { Interceptor } from "@connectrpc/connect";
import { Failure, type RefusedField } from "@coppice/proto/kit/failure";
import type { Reason } from "@coppice/proto/kit/reasons";

/**
 * Longest value, and path (which names keys of maps), that is repeated in a failure, and most fields: in gRPC it travels
 * in a trailer, and clients take 8 KiB of them.
 */
const shownLength = 100;
const shownFields = 8;

/** Fields that refer to a thing, and the reason that says that it does not exist. */
const notFound: ReadonlyMap<string, Reason> = new Map([
  ["backup", "BACKUP_NOT_FOUND"],
  ["cluster", "CLUSTER_NOT_FOUND"],
  ["host", "HOST_NOT_FOUND"],
  ["operation", "OPERATION_NOT_FOUND"],
  ["repository", "REPOSITORY_NOT_FOUND"],
  ["token", "TOKEN_NOT_FOUND"],
] as const);

/**
 * Holds a request, and the first message of a stream, against the rules in the protos, before a handler sees it.
 * Errors: INVALID_FIELD with the fields and what was expected; the value of a secret field is never repeated.
 */
export function validationInterceptor(): Interceptor {
  const validator = createValidator();
  return (next) => async (request) => {
    if (!request.stream) {
      check(validator, request.method.input, request.message);
      return next(request);
    }
    return next({ ...request, message: checkFirst(validator, request.method.input, request.message) });
  };
}

/**
 * Only agents send streams. Whoever takes their reports in refuses them one by one: a stream that ended at one which
 * breaks a rule would be opened again, and end at the same one, for ever.
 */
async function* checkFirst<Desc extends DescMessage>(
  validator: Validator,
  schema: Desc,
  messages: AsyncIterable<MessageShape<Desc>>,
): AsyncGenerator<MessageShape<Desc>> {
  let isFirst = true;
  for await (const message of messages) {
    if (isFirst) check(validator, schema, message);
    isFirst = false;
    yield message;
  }
}

function check<Desc extends DescMessage>(validator: Validator, schema: Desc, message: MessageShape<Desc>): void {
  const result = validator.validate(schema, message);
  if (result.kind === "error") throw result.error;
  const root = reflect(schema, message);
  const violations = result.kind === "invalid" ? result.violations : [];
  const broken = violations.map((violation) => refusedField(root, violation));
  const known = new Set(broken.map(({ field }) => field));
  const all = [...broken, ...findZeroBytes(root, "").filter(({ field }) => !known.has(field))];
  if (all.length === 0) return;
  const [only] = all;
  const missing = only !== undefined && all.length === 1 ? missingThing(only) : undefined;
  if (missing !== undefined) throw missing;
  const names = [...new Set(all.map(({ field }) => field))];
  const shownNames = [...names.slice(0, shownFields), ...(names.length > shownFields ? ["…"] : [])];
  const fields = all.slice(0, shownFields);
  const [first] = fields;
  throw new Failure(
    "INVALID_FIELD",
    fields.length === 1 && first !== undefined
      ? `${first.field}: ${first.description ?? first.expected}`
      : `${names.length === 1 ? "a field is" : `${names.length} fields are`} not as expected: ${shownNames.join(", ")}`,
    { fields },
  );
}

function refusedField(root: ReflectMessage, violation: Violation): RefusedField {
  const value = violation.forKey ? undefined : givenValue(root, violation.field);
  return {
    field: shorten(pathToString(violation.field)),
    description: isPattern(violation)
      ? `it is not ${expectation(violation)}`
      : violation.message || `it breaks the rule ${violation.ruleId}`,
    expected: expectation(violation),
    ...(value === undefined ? {} : { value }),
  };
}

/** PostgreSQL keeps no text with a zero byte, and nobody means one: no rule in the protos has to say so. */
function findZeroBytes(message: ReflectMessage, prefix: string): RefusedField[] {
  return message.fields.flatMap((field): RefusedField[] => {
    if (!message.isSet(field)) return [];
    const path = `${prefix}${field.name}`;
    const refuse = (...values: unknown[]): RefusedField[] =>
      values.some((value) => typeof value === "string" && value.includes("\0"))
        ? [{ field: path, description: "holds a zero byte", expected: "text without zero bytes" }]
        : [];
    switch (field.fieldKind) {
      case "scalar":
        return refuse(message.get(field));
      case "message":
        return findZeroBytes(message.get(field), `${path}.`);
      case "map":
        return [...message.get(field)].flatMap(([key, value]) => refuse(key, value));
      case "list":
        return [...message.get(field)].flatMap((item) =>
          isReflectMessage(item) ? findZeroBytes(item, `${path}.`) : refuse(item),
        );
      case "enum":
        return [];
    }
  });
}

/** A reference that is only mistyped: nothing has that id, which tells more than how ids are made. */
function missingThing({ field, value, expected }: RefusedField): Failure | undefined {
  const reason = notFound.get(field);
  if (reason === undefined || value === undefined || !/^[a-z0-9][a-z0-9_-]{0,62}$/.test(value)) return undefined;
  return new Failure(reason, `there is no ${field} ${value}; expected ${expected}`);
}

function isPattern({ message }: Violation): boolean {
  return message.startsWith("does not match regex pattern ");
}

/** The library says what is wrong; what was expected is the same, turned round. */
function expectation({ message, ruleId }: Violation): string {
  const pattern = /^does not match regex pattern (.*)$/s.exec(message)?.[1];
  if (pattern !== undefined) return inWords(pattern.replace(/^[`"]|[`"]$/g, ""));
  return message.replace(/^(value )?(must|should) (be )?/, "") || ruleId;
}

/** What the protos' patterns of names and ids say; nobody should have to read one of those. */
function inWords(pattern: string): string {
  const name = "a name of lower-case letters, digits and inner hyphens, at most 63";
  const id = /([a-z]{2,3})_\[0-9a-z\]\{26\}/.exec(pattern)?.[1];
  if (id !== undefined) return `an id like ${id}_…`;
  if (pattern.includes("[a-z]{2,3}_[0-9a-z]{26}")) return `${name}, or an id like cls_…`;
  return pattern.includes("[a-z0-9-]{0,61}") ? name : `text that matches ${pattern}`;
}

/** The refused value as text; undefined for messages, absent ones, and anything at or below a secret field. */
function givenValue(root: ReflectMessage, path: Violation["field"]): string | undefined {
  let value: unknown = root;
  for (const step of path) {
    if (step.kind === "field") {
      if (isSecret(step) || !isReflectMessage(value)) return undefined;
      if (!value.isSet(step)) return undefined;
      value = value.get(step);
    } else if (step.kind === "list_sub") {
      if (!isGettable(value)) return undefined;
      value = value.get(step.index);
    } else if (step.kind === "map_sub") {
      if (!isGettable(value)) return undefined;
      value = value.get(step.key);
    } else {
      return undefined;
    }
  }
  if (typeof value !== "string" && typeof value !== "number" && typeof value !== "bigint") return undefined;
  return shorten(String(value));
}

function shorten(text: string): string {
  return text.length > shownLength ? `${text.slice(0, shownLength)}…` : text;
}

function isSecret(field: DescField): boolean {
  return field.proto.options?.debugRedact ?? false;
}

function isReflectMessage(value: unknown): value is ReflectMessage {
  return typeof value === "object" && value !== null && "isSet" in value;
}

function isGettable(value: unknown): value is { get(key: string | number | bigint | boolean): unknown } {
  return typeof value === "object" && value !== null && "get" in value && typeof value.get === "function";
}
