// One file, because every test needs the same few ways to look at real processes from outside.

import { createHash } from "node:crypto";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, open, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import type { Failure } from "@coppice/proto/kit/failure";
import { expect, test } from "vitest";
import { type Chain, type ChainOptions, openChain } from "./chain.ts";
import { gatherBytes } from "./chunks/gather.ts";
import type { Program } from "./program.ts";

const sh = (script: string, more: Partial<Program> = {}): Program => ({ file: "sh", args: ["-c", script], ...more });
const never = new AbortController().signal;

async function read(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function causeOf(programs: readonly Program[], options: Partial<ChainOptions> = {}): Promise<unknown> {
  await using chain = await openChain(programs, { signal: never, ...options });
  chain.output.resume();
  return await chain.done.then(
    () => "it succeeded",
    (error: unknown) => error,
  );
}

/** Process ids whose command line holds the mark. */
async function alive(mark: string): Promise<string[]> {
  const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name) && name !== String(process.pid));
  const found = await Promise.all(
    ids.map(async (id) => {
      // A process may end while it is looked at.
      const line = await readFile(`/proc/${id}/cmdline`, "utf8").catch(() => "");
      const stat = await readFile(`/proc/${id}/stat`, "utf8").catch(() => ") Z");
      return line.includes(mark) && !stat.slice(stat.lastIndexOf(")")).startsWith(") Z") ? [id] : [];
    }),
  );
  return found.flat();
}

async function until(condition: () => Promise<boolean>, withinMs: number): Promise<number> {
  const start = performance.now();
  while (!(await condition())) {
    if (performance.now() - start > withinMs) throw new Error(`it did not come about within ${withinMs} ms`);
    await delay(20);
  }
  return performance.now() - start;
}

/** A number of seconds that no other process has in its command line. */
const newMark = () => `9${process.pid}.${Math.round(performance.now() * 1000)}`;

test("the last program writes into a file by itself, and says when it has no room", async () => {
  const folder = await mkdtemp(join(tmpdir(), "coppice-chain-"));
  const plain = Buffer.alloc(3 << 20, "all work and no play ");
  await using file = await open(join(folder, "plain"), "wx");
  await using chain = await openChain([sh("cat"), sh("cat")], {
    signal: never,
    input: Readable.from([plain]),
    outputFile: file.fd,
  });
  expect(await read(chain.output)).toHaveLength(0);
  await chain.done;
  expect((await readFile(join(folder, "plain"))).equals(plain)).toBe(true);
  await using full = await open("/dev/full", "w");
  const cause = await causeOf([sh("cat")], { input: Readable.from([plain]), outputFile: full.fd });
  expect(cause).toMatchObject({ message: expect.stringContaining("No space left on device") as unknown });
  await rm(folder, { recursive: true });
});

test("bytes go through every program unchanged and the output ends after all have ended well", async () => {
  const plain = Buffer.alloc(40 << 20, "all work and no play ");
  await using chain = await openChain(
    [
      { file: "zstd", args: ["-q", "-c"] },
      { file: "cat", args: [] },
      { file: "zstd", args: ["-d", "-q", "-c"] },
    ],
    { signal: never, input: Readable.from([plain.subarray(0, 1000), plain.subarray(1000)]) },
  );
  const output = await read(chain.output);
  await chain.done;
  expect(createHash("sha256").update(output).digest("hex")).toBe(createHash("sha256").update(plain).digest("hex"));
});

test("a reader that stops reading makes the producer wait, and nothing piles up here", async () => {
  await using chain = await openChain([{ file: "head", args: ["-c", "200000000", "/dev/zero"] }], { signal: never });
  await once(chain.output, "readable");
  const before = process.memoryUsage().arrayBuffers;
  await delay(200);
  expect(chain.output.readableLength).toBeLessThanOrEqual(3 << 20);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 << 20);
  let size = 0;
  for await (const chunk of chain.output as AsyncIterable<Buffer>) size += chunk.length;
  expect(size).toBe(200_000_000);
});

test("what a program wrote before it failed never looks like a whole stream", async () => {
  await using chain = await openChain([sh("echo half; exit 3"), { file: "cat", args: [] }], { signal: never });
  await expect(read(chain.output)).rejects.toMatchObject({ reason: "PROGRAM_FAILED" });
});

test("when the consumer dies first it is the cause, and the producer that lost its reader is not", async () => {
  const cause = await causeOf([sh("exec cat /dev/zero"), sh("head -c 100000 >/dev/null; echo disk full >&2; exit 4")]);
  expect(cause).toMatchObject({
    reason: "PROGRAM_FAILED",
    message: "sh ended with exit code 4: disk full",
    metadata: { program: "sh", exitCode: "4", stderr: "disk full" },
  });
});

test("when the producer dies first it is the cause, also if its consumer then dislikes what it got", async () => {
  const cause = await causeOf([sh("echo no such table >&2; exit 2"), { file: "zstd", args: ["-d", "-q", "-c"] }]);
  expect(cause).toMatchObject({ message: "sh ended with exit code 2: no such table" });
});

test("when all die the one that fell first is named", async () => {
  const cause = await causeOf([sh("sleep 0.3; exit 5"), sh("exit 6"), sh("sleep 0.6; exit 7")]);
  expect(cause).toMatchObject({ metadata: { exitCode: "6" } });
});

test("a program in the middle that is killed is named with its signal", async () => {
  const cause = await causeOf([{ file: "cat", args: ["/dev/zero"] }, sh("kill -9 $$"), { file: "cat", args: [] }]);
  expect(cause).toMatchObject({ message: "sh ended with signal SIGKILL", metadata: { signal: "SIGKILL" } });
});

test("a consumer that stops early without a failure of its own leaves the producer's", async () => {
  const chain = [
    { file: "cat", args: ["/dev/zero"] },
    { file: "head", args: ["-c", "10"] },
  ];
  expect(await causeOf(chain)).toMatchObject({ metadata: { program: "cat" } });
  expect(await causeOf(chain, { mayStopEarly: true })).toBe("it succeeded");
});

test("an input that the program does not read to its end is a failure unless it may stop early", async () => {
  const input = () => Readable.from(Array.from({ length: 64 }, () => Buffer.alloc(1 << 16)));
  const head = { file: "head", args: ["-c", "10"] };
  expect(await causeOf([head], { input: input() })).toMatchObject({
    message: "head ended before it had read all of its input",
  });
  expect(await causeOf([head], { input: input(), mayStopEarly: true })).toBe("it succeeded");
});

test("a program that has read all and ends before the input says that it ends has taken it whole", async () => {
  async function* late(ending: () => Promise<void>) {
    yield Buffer.from("0123456789");
    await ending();
  }
  const head = { file: "head", args: ["-c", "10"] };
  expect(await causeOf([head], { input: Readable.from(late(() => delay(300))) })).toBe("it succeeded");
  const broken = () => delay(300).then(() => Promise.reject(new Error("its digest is wrong")));
  expect(await causeOf([head], { input: Readable.from(late(broken)) })).toMatchObject({
    message: "its digest is wrong",
  });
  const never = () => new Promise<void>(() => {});
  const signal = AbortSignal.timeout(300);
  expect(await causeOf([head], { input: Readable.from(late(never)), signal })).toBe(signal.reason);
});

test("a program that fails while one before it hangs makes an end of both", async () => {
  const mark = newMark();
  const start = performance.now();
  const cause = await causeOf([sh(`sleep 60; : ${mark}`), sh("exit 9")]);
  expect(cause).toMatchObject({ metadata: { exitCode: "9" } });
  expect(performance.now() - start).toBeLessThan(4000);
  expect(await alive(mark)).toEqual([]);
});

test("when the input fails the program is killed before it could see an end", async () => {
  async function* broken() {
    yield Buffer.from("BEGIN;\n");
    await delay(100);
    throw new Error("digest differs");
  }
  await using chain = await openChain([sh("cat >/dev/null; echo saw a clean end")], {
    signal: never,
    input: Readable.from(broken()),
  });
  await expect(read(chain.output)).rejects.toThrow("digest differs");
  await expect(chain.done).rejects.toThrow("digest differs");
});

test("an abort in the middle leaves no process of any group after two seconds", async () => {
  const mark = newMark();
  const controller = new AbortController();
  // The second ignores TERM, as a program that hangs would.
  const chain = await openChain(
    [sh(`cat /dev/zero; : ${mark}`), sh(`trap "" TERM; (sleep 60; : ${mark}) & cat; sleep 60; : ${mark}`)],
    { signal: controller.signal },
  );
  await once(chain.output, "readable");
  expect((await alive(mark)).length).toBeGreaterThanOrEqual(2);
  const reason = new Error("not wanted any more");
  controller.abort(reason);
  expect(await until(async () => (await alive(mark)).length === 0, 3000)).toBeLessThan(2000);
  await expect(chain.done).rejects.toBe(reason);
  expect(chain.output.errored).toBe(reason);
});

test("a chain that is disposed or whose output is left is ended", async () => {
  const mark = newMark();
  {
    await using chain = await openChain([sh(`cat /dev/zero; : ${mark}`)], { signal: never });
    await once(chain.output, "readable");
  }
  expect(await alive(mark)).toEqual([]);
  await using chain: Chain = await openChain([sh(`cat /dev/zero; : ${mark}`)], { signal: never });
  for await (const _ of chain.output) break;
  await expect(chain.done).rejects.toMatchObject({ reason: "CANCELLED" });
  expect(await alive(mark)).toEqual([]);
});

test("who has inherited the output in another session holds up neither its end nor an abort", async () => {
  const mark = newMark();
  await using stack = new AsyncDisposableStack();
  stack.defer(async () => (await alive(mark)).forEach((id) => process.kill(Number(id))));
  const folder = await mkdtemp(join(tmpdir(), "coppice-chain-"));
  stack.defer(() => rm(folder, { recursive: true }));
  // It is in a session of its own before the program ends: until then it would end with it.
  const leave = (name: string, script: string) =>
    `setsid --fork sh -c '>${join(folder, name)}; ${script}'; until [ -e ${join(folder, name)} ]; do sleep 0.01; done`;
  // Some of it waits in the pipe until it is read.
  const plain = Buffer.alloc(gatherBytes + (64 << 10), "all work and no play ");
  await using silent = await openChain([sh(`cat; ${leave("silent", `exec sleep ${mark}`)}`)], {
    signal: never,
    input: Readable.from([plain]),
  });
  await once(silent.output, "readable");
  await silent.done;
  // Its reader takes longer than it may be silent.
  await delay(1500);
  expect((await read(silent.output)).equals(plain)).toBe(true);
  expect(await alive(mark)).toHaveLength(1);
  const controller = new AbortController();
  const talking = sh(leave("talking", `while echo more; do sleep 0.1; done; : ${mark}`));
  await using chain = await openChain([talking], { signal: controller.signal });
  await chain.done;
  const reading = read(chain.output);
  const reason = new Error("not wanted any more");
  controller.abort(reason);
  await expect(reading).rejects.toBe(reason);
});

test("a flood of stderr takes neither memory nor the program's time", async () => {
  let lines = 0;
  const before = process.memoryUsage().rss;
  const cause = await causeOf([sh("yes 'error: the same thing again and again' | head -c 100000000 >&2; exit 1")], {
    onStderr: () => lines++,
  });
  expect(cause).toMatchObject({ metadata: { program: "sh", exitCode: "1" } });
  expect((cause as Failure).metadata["stderr"]?.length).toBeLessThanOrEqual(8000);
  expect(lines).toBe(10_001);
  expect(process.memoryUsage().rss - before).toBeLessThan(100 << 20);
});

test("a flood without a single line end is cut", async () => {
  const cause = await causeOf([sh("head -c 20000000 /dev/zero | tr '\\0' x >&2; exit 1")]);
  expect((cause as Error).message.length).toBeLessThan(5000);
});

test("lines that a program hides are in no error and no log", async () => {
  const seen: string[] = [];
  const hidesLine = (line: string) => line.startsWith("Command was");
  const cause = await causeOf([sh("echo bad >&2; echo Command was: SELECT 1 >&2; exit 1", { hidesLine })], {
    onStderr: (program, line) => seen.push(`${program}: ${line}`),
  });
  expect(seen).toEqual(["sh: bad"]);
  expect(cause).toMatchObject({ message: "sh ended with exit code 1: bad" });
});

test("a missing program is named before anything starts", async () => {
  const mark = newMark();
  const input = Readable.from(["x"]);
  const missing = { file: "/nowhere/pg_dump", args: [] };
  await expect(openChain([sh(`sleep 60; : ${mark}`), missing], { signal: never, input })).rejects.toMatchObject({
    reason: "PROGRAM_MISSING",
    metadata: { program: "pg_dump" },
  });
  await expect(openChain([{ file: "no-such-program", args: [] }], { signal: never })).rejects.toMatchObject({
    reason: "PROGRAM_MISSING",
  });
  expect(input.destroyed).toBe(true);
  expect(await alive(mark)).toEqual([]);
});

test("a folder that cannot be entered is a failure that says so", async () => {
  const cause = (await causeOf([sh("true", { cwd: "/nowhere" })])) as Failure;
  expect(cause.reason).toBe("PROGRAM_FAILED");
  expect(cause.message).toContain("/nowhere");
});

test("kill -9 of the agent takes its programs along, and what those have forked", async () => {
  const mark = newMark();
  const chain = new URL("./chain.ts", import.meta.url).href;
  const script = `
    import { openChain } from ${JSON.stringify(chain)};
    const signal = new AbortController().signal;
    const shell = (script, forks) => ({ file: "sh", args: ["-c", script], forks });
    await openChain([shell("exec sleep ${mark}", false), shell("exec sleep ${mark}", false)], { signal });
    await openChain([shell("sleep ${mark} & sleep ${mark} & wait", true)], { signal });
    process.stdout.write("up");
    setInterval(() => {}, 1000);`;
  const parent = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(parent.stdout, "data");
  // Four that sleep, two shells, and the agent's own command line.
  await until(async () => (await alive(mark)).length === 7, 3000);
  parent.kill("SIGKILL");
  await until(async () => (await alive(mark)).length === 0, 3000);
  expect(await alive(mark)).toEqual([]);
});

test("a program that forks keeps its input, its exit code and its signal", async () => {
  const forks = true;
  await using chain = await openChain([sh("cat; exit 0", { forks })], { signal: never, input: Readable.from(["in"]) });
  expect((await read(chain.output)).toString()).toBe("in");
  expect(await causeOf([sh("exit 7", { forks })])).toMatchObject({ metadata: { exitCode: "7" } });
  expect(await causeOf([sh("kill -9 $$", { forks })])).toMatchObject({ metadata: { signal: "SIGKILL" } });
});
