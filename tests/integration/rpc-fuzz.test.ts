// Every method of every service, called with what no client of good will sends. It is one file because all of it asks
// the same questions of each answer, and the state before and after belongs together.
import { readFile } from "node:fs/promises";
import { type DescMethod, ScalarType, toBinary, toJsonString } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Answer, answerLimitMs, envelope, openRawClient, type RawClient } from "../support/fuzz/raw-call.ts";
import { findServedMethods } from "../support/fuzz/served-methods.ts";
import { makeMessage, openRandom, wildTexts, wrongBodies, wrongValues } from "../support/fuzz/wild-messages.ts";
import { type Installation, openInstallation } from "../support/installation.ts";

const stack = new AsyncDisposableStack();
const methods = await findServedMethods();
let cop: Installation;
let client: RawClient;
let viewer: string;
let memoryBefore: number;

beforeAll(async () => {
  cop = stack.use(await openInstallation());
  client = stack.use(openRawClient(cop.address));
  // Something to refer to. No agent ever comes, so that what is started stays queued.
  await cop.must(["host", "add", "db7"]);
  await cop.must(["repository", "add", "main", "db7:/srv/backups"]);
  await cop.must(["cluster", "add", "demo", "--host", "db7", "--endpoint", "127.0.0.1:1"]);
  viewer = (await cop.json<{ value: string }>(["token", "create", "looker", "--role", "viewer"])).value;
  memoryBefore = await residentBytes();
});
afterAll(() => stack.disposeAsync());

async function residentBytes(): Promise<number> {
  const status = await readFile(`/proc/${cop.controlPlane().pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

const nameOf = (method: DescMethod) => `${method.parent.name}/${method.name}`;
const pathOf = (method: DescMethod) => `${method.parent.typeName}/${method.name}`;
const isUnary = (method: DescMethod) => method.methodKind === "unary";

/** Sends bytes in an encoding as the kind of method asks for it. */
function send(method: DescMethod, encoding: "json" | "proto", body: Uint8Array | string, token?: string) {
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  return client.call({
    path: pathOf(method),
    contentType: isUnary(method) ? `application/${encoding}` : `application/connect+${encoding}`,
    body: isUnary(method) ? bytes : envelope(bytes),
    token,
  });
}

const sendGrpc = (method: DescMethod, body: Uint8Array, token?: string) =>
  client.call({ path: pathOf(method), contentType: "application/grpc+proto", body, token });

/** Traces of our insides that no client may see. */
const insides = /\n {4}at |node_modules|program\.js|PostgresError|Drizzle|Failed query|violates|syntax error at/;

/** What is wrong with an answer; nothing when it is one that a client can deal with. */
function problemsOf(what: string, answer: Answer): string[] {
  const { code, reason, message, text, milliseconds } = answer;
  const problems: string[] = [];
  if (["", "internal", "unknown", "data_loss"].includes(code)) problems.push(`code ${code || answer.httpStatus}`);
  if (code !== "ok" && reason === undefined) problems.push("no FailureDetail");
  if (insides.test(text)) problems.push("it shows our insides");
  if (text.length > 8000 && code !== "ok") problems.push(`a refusal of ${text.length} bytes, too long for a trailer`);
  if (milliseconds > answerLimitMs) problems.push(`${Math.round(milliseconds)} ms`);
  return problems.map((problem) => `${what}: ${problem}: ${code} ${reason} ${message.slice(0, 200)}`);
}

/** Runs the calls, some at a time, and gives what was wrong with the answers. */
async function problemsOfAll(calls: readonly [what: string, call: () => Promise<Answer>][]): Promise<string[]> {
  const left = [...calls];
  const problems: string[] = [];
  const work = async () => {
    for (let next = left.pop(); next !== undefined; next = left.pop()) {
      const [what, call] = next;
      try {
        problems.push(...problemsOf(what, await call()));
      } catch (error) {
        problems.push(`${what}: ${String(error)}`);
      }
    }
  };
  await Promise.all(Array.from({ length: 12 }, work));
  return problems.toSorted();
}

/** All that the lists show, audit included; without the times at which tokens were used. */
async function everything(): Promise<Record<string, string>> {
  const lists = methods.filter(({ name }) => name.startsWith("List"));
  const answers = await Promise.all(
    lists.map(async (method): Promise<[string, string]> => {
      const body = method.input.fields.some(({ name }) => name === "page") ? { page: { pageSize: 1000 } } : {};
      const { code, text } = await send(method, "json", JSON.stringify(body), cop.adminToken);
      expect(code, nameOf(method)).toBe("ok");
      const [json = ""] = text.split(/ (?=\{":status")/);
      return [nameOf(method), json.replaceAll(/,"lastUsedTime":"[^"]*"/g, "")];
    }),
  );
  return Object.fromEntries(answers);
}

/** A request of the method's own type; it waits for nothing that may never come. */
function likelyBody(method: DescMethod, seed: string, likely: number): Uint8Array {
  const message = makeMessage(method.input, { random: openRandom(`${nameOf(method)} ${seed}`), likely });
  return toBinary(method.input, message);
}

test("there are methods to call, in more than ten services", () => {
  expect(methods.length).toBeGreaterThan(35);
  expect(new Set(methods.map(({ parent }) => parent.name)).size).toBeGreaterThanOrEqual(10);
});

test("what is no message of a method is refused with a reason, and changes nothing", async () => {
  const before = await everything();
  const problems = await problemsOfAll(
    methods.flatMap((method) => {
      const random = openRandom(nameOf(method));
      const admin = cop.adminToken;
      const json = (what: string, body: string): [string, () => Promise<Answer>] => [
        `${nameOf(method)} ${what.slice(0, 60)}`,
        () => send(method, "json", body, admin),
      ];
      const names = method.input.fields.map(({ jsonName }) => jsonName);
      const all = (value: string) => `{${names.map((name) => `"${name}":${value}`).join(",")}}`;
      const noise = Array.from({ length: 4 }, () => Uint8Array.from({ length: random(300) }, () => random(256)));
      return [
        ...wrongBodies.map((body) => json(`body ${body}`, body)),
        ...(names.length === 0 ? [] : wrongValues.map((value) => json(`every field ${value}`, all(value)))),
        ...noise.map((bytes, index): [string, () => Promise<Answer>] => [
          `${nameOf(method)} noise ${index}`,
          () => (index % 2 === 0 ? sendGrpc(method, envelope(bytes), admin) : send(method, "proto", bytes, admin)),
        ]),
        [`${nameOf(method)} noise without an envelope`, () => sendGrpc(method, Buffer.from("\xff\x00junk"), admin)],
        [`${nameOf(method)} nothing in gRPC`, () => sendGrpc(method, new Uint8Array(), admin)],
      ];
    }),
  );
  expect(problems).toEqual([]);
  expect(await everything()).toEqual(before);
});

test("texts of 1 MiB and requests that are too large are refused at once", async () => {
  const problems: string[] = [];
  for (const method of methods) {
    const name = method.input.fields.find(({ scalar }) => scalar === ScalarType.STRING)?.jsonName ?? "page";
    const call = (mebibytes: number) =>
      send(method, "json", `{"${name}":"${"x".repeat(mebibytes * 2 ** 20)}"}`, cop.adminToken);
    problems.push(...problemsOf(`${nameOf(method)} 1 MiB`, await call(1)));
    problems.push(...problemsOf(`${nameOf(method)} 5 MiB`, await call(5)));
  }
  expect(problems).toEqual([]);
});

test("without a token, with a wrong one, and with a viewer's, nothing is ever changed", async () => {
  const before = await everything();
  const problems: string[] = [];
  for (const token of [undefined, "cop_wrong", "Bearer x", viewer]) {
    const calls = methods.flatMap((method): [string, () => Promise<Answer>][] =>
      ["a", "b", "c"].map((seed) => [
        `${nameOf(method)} ${token === viewer ? "viewer" : token} ${seed}`,
        async () => {
          const answer = await send(method, "proto", likelyBody(method, seed, 9), token);
          const looks = /^(Get|List|Discover|Wait|Watch)/.test(method.name);
          const expected = token !== viewer ? "unauthenticated" : looks ? answer.code : "permission_denied";
          const isRight = method.parent.name === "AgentService" || answer.code === expected;
          if (!isRight) problems.push(`${nameOf(method)} gave ${answer.code} instead of ${expected}`);
          return answer;
        },
      ]),
    );
    problems.push(...(await problemsOfAll(calls)));
  }
  expect(problems).toEqual([]);
  expect(await everything()).toEqual(before);
});

test("wild texts in likely messages get foreseen answers, and only what was granted leaves a trace", async () => {
  const before = await everything();
  let granted = 0;
  const count = async (answer: Promise<Answer>) => {
    const got = await answer;
    if (got.code === "ok") granted += 1;
    return got;
  };
  const calls = methods.flatMap((method): [string, () => Promise<Answer>][] => [
    ...Array.from({ length: 8 }, (_, round): [string, () => Promise<Answer>] => [
      `${nameOf(method)} round ${round}`,
      () => count(send(method, "proto", likelyBody(method, `round ${round}`, round), cop.adminToken)),
    ]),
    ...wildTexts.map((text): [string, () => Promise<Answer>] => {
      const names = method.input.fields
        .filter(({ scalar }) => scalar === ScalarType.STRING)
        .map(({ jsonName }) => jsonName);
      const body = JSON.stringify(Object.fromEntries(names.map((name) => [name, text])));
      return [
        `${nameOf(method)} ${JSON.stringify(text.slice(0, 30))}`,
        () => count(send(method, "json", body, cop.adminToken)),
      ];
    }),
    [
      `${nameOf(method)} empty`,
      () =>
        count(
          send(
            method,
            "json",
            toJsonString(method.input, makeMessage(method.input, { random: () => 9, likely: 9 })),
            cop.adminToken,
          ),
        ),
    ],
  ]);
  expect(await problemsOfAll(calls)).toEqual([]);
  const rows = (all: Record<string, string>) => (all["AuditService/ListAuditRecords"] ?? "").split('"id":').length;
  expect(rows(await everything()) - rows(before)).toBeLessThanOrEqual(granted);
});

test("unknown methods, services and kinds of content are refused", async () => {
  const statuses = await Promise.all(
    (
      [
        ["coppice.control.v1.BackupService/NoSuchMethod", "application/json", 404],
        ["coppice.control.v9.Nothing/Get", "application/proto", 404],
        ["../../etc/passwd", "application/json", 404],
        ["coppice.control.v1.BackupService/ListBackups", "text/plain", 415],
        ["coppice.control.v1.BackupService/ListBackups", "application/xml", 415],
        ["coppice.control.v1.BackupService/ListBackups", "multipart/form-data; boundary=x", 415],
        ["coppice.control.v1.BackupService/ListBackups", "", 415],
        ["coppice.control.v1.OperationService/WatchOperation", "application/json", 415],
      ] as const
    ).map(async ([path, contentType, expected]) => {
      const { httpStatus } = await client.call({ path, contentType, body: Buffer.from("{}"), token: cop.adminToken });
      return [path, contentType, httpStatus, expected];
    }),
  );
  expect(statuses.filter(([, , status, expected]) => status !== expected)).toEqual([]);
});

test("after all that the control plane answers, has not grown much, and has logged nothing unforeseen", async () => {
  expect(await cop.must(["status"])).toContain("demo");
  const log = await readFile(cop.controlPlane().logFile, "utf8");
  expect(log.split("\n").filter((line) => /"level":"(error|fatal)"/.test(line))).toEqual([]);
  expect((await residentBytes()) - memoryBefore).toBeLessThan(400 * 2 ** 20);
});
