// One thing: a folder as a storage, by the contract and by what only a file system can do to it.
import { fork, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, open, readdir, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { sleep } from "@coppice/proto/kit/sleep";
import { filesystemFailure } from "../../agent/src/storage/filesystem-failure.ts";
import { openFilesystem } from "../../agent/src/storage/filesystem.ts";
import { slowThreads } from "../support/faults/slow-threads.ts";
import { fillFolder } from "./fill-folder.ts";
import { describeStorage } from "./storage.ts";

const signal = new AbortController().signal;
const isRoot = process.getuid?.() === 0;

async function* body(text: string, times = 1): AsyncGenerator<Uint8Array, void> {
  for (let index = 0; index < times; index++) yield Buffer.from(text);
}

describeStorage("a folder", async () => {
  const folder = await mkdtemp(join(tmpdir(), "coppice-contract-"));
  return {
    open: (operationId) => openFilesystem(folder, operationId),
    listing: {
      isLast: true,
      async open(keys) {
        const many = join(folder, "listing");
        await fillFolder(many, keys);
        return openFilesystem(many, "op_listing");
      },
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
});

describe("a folder of its own kind", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "coppice-folder-"));
  });
  afterEach(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  test("files are for their owner alone, whatever the umask", async () => {
    const before = process.umask(0);
    const storage = await openFilesystem(folder, "op_x");
    await storage.put("a/b", body("x"), { signal, ifAbsent: true });
    process.umask(before);
    expect((await stat(join(folder, "a"))).mode & 0o777).toBe(0o700);
    expect((await stat(join(folder, "a/b"))).mode & 0o777).toBe(0o600);
  });

  test("folders that became empty are removed, the repository's own never", async () => {
    const storage = await openFilesystem(folder, "op_x");
    await storage.put("a/b/c", body("x"), { signal, ifAbsent: true });
    await storage.put("a/d", body("x"), { signal, ifAbsent: true });
    await storage.deleteMany(["a/b/c"], signal);
    expect(await readdir(join(folder, "a"))).toEqual(["d"]);
    await storage.deleteMany(["a/d"], signal);
    expect(await readdir(folder)).toEqual([]);
  });

  test("a put that fails leaves no folder that was made for it", async () => {
    const storage = await openFilesystem(folder, "op_x");
    await storage.put("a/d", body("x"), { signal, ifAbsent: true });
    async function* broken(): AsyncGenerator<Uint8Array, void> {
      yield Buffer.from("x");
      throw new Error("the source broke");
    }
    await expect(storage.put("a/b/c", broken(), { signal, ifAbsent: true })).rejects.toThrow("the source broke");
    expect(await readdir(join(folder, "a"))).toEqual(["d"]);
  });

  test("an object that has its name stays though its folder cannot be synced, and nobody is told that it is durable", async () => {
    await chmod(folder, 0o777);
    // Who may not read a folder can make a file in it, and cannot sync it.
    if (isRoot) process.seteuid?.(65_534);
    try {
      const storage = await openFilesystem(folder, "op_x");
      await storage.put("a/b", body("x"), { signal, ifAbsent: true });
      await chmod(join(folder, "a"), 0o300);
      const unsynced = { reason: "REPOSITORY_NOT_WRITABLE" };
      await expect(storage.put("a/b", body("x"), { signal, ifAbsent: true })).rejects.toMatchObject(unsynced);
      await expect(storage.put("a/c", body("y"), { signal, ifAbsent: true })).rejects.toMatchObject(unsynced);
      await chmod(join(folder, "a"), 0o700);
      expect((await readdir(join(folder, "a"))).toSorted()).toEqual(["b", "c"]);
      const there = { reason: "OBJECT_EXISTS" };
      await expect(storage.put("a/c", body("y"), { signal, ifAbsent: true })).rejects.toMatchObject(there);
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
  });

  test("a folder that is not there, or a file in its place, is unreachable and is not made", async () => {
    const unreachable = { reason: "REPOSITORY_UNREACHABLE" };
    await expect(openFilesystem(join(folder, "not"), "op_x")).rejects.toMatchObject(unreachable);
    expect(await readdir(folder)).toEqual([]);
    await writeFile(join(folder, "file"), "");
    await expect(openFilesystem(join(folder, "file"), "op_x")).rejects.toMatchObject(unreachable);
  });

  test("a folder that vanishes is unreachable to every call, also when another takes its place", async () => {
    const path = join(folder, "repository");
    await mkdir(path);
    const storage = await openFilesystem(path, "op_x");
    await storage.put("a/b", body("x"), { signal, ifAbsent: true });
    const unreachable = { reason: "REPOSITORY_UNREACHABLE" };
    const checkAll = async () => {
      await expect(storage.put("c", body("x"), { signal, ifAbsent: true })).rejects.toMatchObject(unreachable);
      await expect(storage.put("a/c", body("x"), { signal, ifAbsent: false })).rejects.toMatchObject(unreachable);
      await expect(storage.get("a/b", { signal })).rejects.toMatchObject(unreachable);
      await expect(storage.stat("a/b", signal)).rejects.toMatchObject(unreachable);
      await expect(Array.fromAsync(storage.list("", signal))).rejects.toMatchObject(unreachable);
      await expect(storage.deleteMany(["a/b"], signal)).rejects.toMatchObject(unreachable);
      await expect(storage.freeBytes(signal)).rejects.toMatchObject(unreachable);
    };
    await rename(path, join(folder, "elsewhere"));
    await checkAll();
    expect(await readdir(folder)).toEqual(["elsewhere"]);
    await mkdir(path);
    await checkAll();
    expect(await readdir(path)).toEqual([]);
  });

  test("symbolic links inside lead nowhere", async () => {
    const outside = join(folder, "outside");
    const path = join(folder, "repository");
    await mkdir(outside);
    await mkdir(path);
    await writeFile(join(outside, "secret"), "secret");
    await symlink(outside, join(path, "link"));
    await symlink(join(outside, "secret"), join(path, "file"));
    const storage = await openFilesystem(path, "op_x");
    const refused = { reason: "OBJECT_KEY_REFUSED" };
    await expect(storage.put("link/new", body("x"), { signal, ifAbsent: true })).rejects.toMatchObject(refused);
    await expect(storage.get("link/secret", { signal })).rejects.toMatchObject(refused);
    await expect(storage.get("file", { signal })).rejects.toMatchObject(refused);
    await expect(storage.stat("file", signal)).rejects.toMatchObject(refused);
    await expect(storage.deleteMany(["link/secret"], signal)).rejects.toMatchObject(refused);
    expect(await Array.fromAsync(storage.list("", signal))).toEqual([]);
    await storage.put("file", body("x"), { signal, ifAbsent: false });
    expect(await readdir(outside)).toEqual(["secret"]);
    expect((await stat(join(outside, "secret"))).size).toBe(6);
  });

  test("a repository reached through a symbolic link works", async () => {
    await mkdir(join(folder, "real"));
    await symlink(join(folder, "real"), join(folder, "alias"));
    const storage = await openFilesystem(join(folder, "alias"), "op_x");
    await storage.put("a", body("x"), { signal, ifAbsent: true });
    expect(await readdir(join(folder, "real"))).toEqual(["a"]);
  });

  test("a file where a key wants a folder is refused, and so is a name of unfinished files", async () => {
    const storage = await openFilesystem(folder, "op_x");
    await storage.put("a", body("x"), { signal, ifAbsent: true });
    const refused = { reason: "OBJECT_KEY_REFUSED" };
    await expect(storage.put("a/b", body("x"), { signal, ifAbsent: true })).rejects.toMatchObject(refused);
    const name = "d/.coppice-unfinished.op_x.0123456789abcdef";
    await expect(storage.put(name, body("x"), { signal, ifAbsent: true })).rejects.toMatchObject(refused);
  });

  test("what is no regular file is not an object", async () => {
    await mkdir(join(folder, "a"));
    spawnSync("mkfifo", [join(folder, "a", "fifo")]);
    const storage = await openFilesystem(folder, "op_x");
    await expect(storage.get("a/fifo", { signal })).rejects.toMatchObject({ reason: "OBJECT_MISSING" });
    expect(await storage.stat("a/fifo", signal)).toBeUndefined();
    expect(await Array.fromAsync(storage.list("", signal))).toEqual([]);
  });

  test("a listing of thousands of files holds few of them at a time", async () => {
    for (let index = 0; index < 5000; index++) await writeFile(join(folder, `object-${index}`), "x");
    const storage = await openFilesystem(folder, "op_x");
    let count = 0;
    for await (const { sizeBytes } of storage.list("object-", signal)) count += sizeBytes;
    expect(count).toBe(5000);
  });

  test("a listing that takes long is sound while each look comes back, and holds up nobody", async () => {
    await fillFolder(
      folder,
      Array.from({ length: 150 }, (_, index) => `folder-${index}/x`),
    );
    const patience = { answerMs: 1_000, restMs: 100, callsAtOnce: 8 };
    const storage = await openFilesystem(folder, "op_x", { patience });
    const beside = await openFilesystem(folder, "op_y", { patience });
    await using _slow = await slowThreads(10);
    const beganMs = performance.now();
    const listing = Array.fromAsync(storage.listUnfinished("", signal));
    const tookMs = listing.then(() => performance.now() - beganMs);
    await sleep(1_500, signal);
    expect(await beside.stat("folder-1/x", signal)).toEqual({ sizeBytes: 1 });
    expect(await listing).toEqual([]);
    expect(await tookMs).toBeGreaterThan(2_000);
  });

  test("a listing that does not come back is told in time, and can be made again when it does", async () => {
    const keys = Array.from({ length: 30 }, (_, index) => `folder-${index}/x`);
    await fillFolder(folder, keys);
    const patience = { answerMs: 500, restMs: 100, callsAtOnce: 8 };
    const storage = await openFilesystem(folder, "op_x", { patience });
    await using slow = await slowThreads(1);
    const listing = storage.list("", signal)[Symbol.asyncIterator]();
    await listing.next();
    slow.stop();
    const beganMs = performance.now();
    const hangs = { reason: "REPOSITORY_UNREACHABLE", message: expect.stringMatching(/ hangs: /) as string };
    const rest = Array.fromAsync({ [Symbol.asyncIterator]: () => listing });
    await expect(rest).rejects.toMatchObject(hangs);
    expect(performance.now() - beganMs).toBeLessThan(3_000);
    slow.goOn();
    await expect.poll(() => Array.fromAsync(storage.list("", signal)).catch(() => [])).toHaveLength(keys.length);
  });

  test("a put takes a turn for each folder that it makes, and one that is given up among them leaves nothing", async () => {
    const key = "folder/".repeat(40) + "x";
    const patience = { answerMs: 1_000, restMs: 100, callsAtOnce: 8 };
    const storage = await openFilesystem(folder, "op_x", { patience });
    await using _slow = await slowThreads(10);
    const enough = AbortSignal.timeout(500);
    await expect(storage.put(key, body("x"), { signal: enough, ifAbsent: true })).rejects.toMatchObject({
      name: "TimeoutError",
    });
    await expect.poll(() => readdir(folder), { timeout: 10_000 }).toEqual([]);
    expect(await storage.put(key, body("x"), { signal, ifAbsent: true })).toEqual({ sizeBytes: 1 });
  });

  test("a disk that is slower than a body is given no more to sync at once than it can in time", async () => {
    let given = 0;
    let syncedUpTo = 0;
    let mostUnsynced = 0;
    async function* large() {
      const chunk = Buffer.alloc(1 << 20);
      for (; given < 300; given++) {
        mostUnsynced = Math.max(mostUnsynced, given - syncedUpTo);
        yield chunk;
      }
    }
    const handle = await open(join(folder, "handle"), "w");
    const methods = Object.getPrototypeOf(handle) as typeof handle;
    await handle.close();
    // Two seconds are enough for the whole body here.
    using _slow = vi.spyOn(methods, "datasync").mockImplementation(async () => {
      const covered = given;
      await sleep(2_000, signal);
      syncedUpTo = covered;
    });
    const storage = await openFilesystem(folder, "op_x");
    await storage.put("a", large(), { signal, ifAbsent: true });
    // What is being synced, as much that waits for it, and what is gathered.
    expect(mostUnsynced).toBeLessThan(128 + 128 + 8);
  });

  test("an object that is cut while it is read never ends cleanly", async () => {
    const storage = await openFilesystem(folder, "op_x");
    await storage.put("a", body("x".repeat(100_000), 100), { signal, ifAbsent: true });
    const reader = await storage.get("a", { signal });
    const reading = (async () => {
      for await (const _ of reader) await writeFile(join(folder, "a"), "");
    })();
    await expect(reading).rejects.toMatchObject({ reason: "DIGEST_MISMATCH" });
  });

  test("a killed put leaves a file that names its operation, and it can be removed", async () => {
    const script = join(folder, "put.mjs");
    const path = join(folder, "repository");
    await mkdir(path);
    const modulePath = new URL("../../agent/src/storage/filesystem.ts", import.meta.url).href;
    await writeFile(
      script,
      `import { openFilesystem } from ${JSON.stringify(modulePath)};
       const storage = await openFilesystem(${JSON.stringify(path)}, "op_killed");
       async function* body() { for (;;) { yield Buffer.alloc(1 << 20); process.send("wrote"); await new Promise((r) => setTimeout(r, 5)); } }
       await storage.put("cls_a/b", body(), { signal: new AbortController().signal, ifAbsent: true });`,
    );
    const child = fork(script, { execArgv: [] });
    for (let count = 0; count < 5; count++) await once(child, "message");
    child.kill("SIGKILL");
    await once(child, "exit");

    const storage = await openFilesystem(path, "op_next");
    expect(await Array.fromAsync(storage.list("", signal))).toEqual([]);
    const left = await Array.fromAsync(storage.listUnfinished("", signal));
    expect(left).toMatchObject([{ operationId: "op_killed" }]);
    expect(left[0]?.sizeBytes).toBeGreaterThan(0);
    await storage.put("cls_a/b", body("the next try works"), { signal, ifAbsent: true });
    expect(await storage.removeUnfinished(left, signal)).toBe(1);
    expect(await readdir(join(path, "cls_a"))).toEqual(["b"]);
  });

  // As root a mode forbids nothing and mounts can be made; as anyone else it is the other way round.
  test("a folder that may not be written says so, by its mode or by its mount", async () => {
    const storage = await openFilesystem(folder, "op_x");
    await storage.put("a", body("x"), { signal, ifAbsent: true });
    await makeReadOnly(folder);
    const outcome = await Promise.allSettled([
      storage.put("b", body("x"), { signal, ifAbsent: true }),
      storage.put("c/d", body("x"), { signal, ifAbsent: true }),
      storage.deleteMany(["a"], signal),
    ]);
    await makeWritable(folder);
    const notWritable = { status: "rejected", reason: { reason: "REPOSITORY_NOT_WRITABLE" } };
    expect(outcome).toMatchObject([notWritable, notWritable, notWritable]);
    expect(await readdir(folder)).toEqual(["a"]);
  });

  test("an error of a full device is REPOSITORY_FULL", async () => {
    const error: unknown = await writeFile("/dev/full", "x").catch((cause: unknown) => cause);
    const failure = filesystemFailure(error, { doing: "write", root: folder, key: "a" });
    expect(failure).toMatchObject({ reason: "REPOSITORY_FULL", metadata: { errno: "ENOSPC" } });
    const words = /^repository \S+: cannot write a: no space left on its device; [\d.]+ \w+ free now/;
    expect((failure as Error).message).toMatch(words);
    expect((failure as Error).message).toContain(folder);
  });

  // Only root may mount a small file system; for anyone else the test above has to do.
  test.runIf(isRoot)("a put that fills the disk leaves nothing, and a smaller one works", async () => {
    run("mount", "-t", "tmpfs", "-o", "size=4m", "coppice-test", folder);
    try {
      const storage = await openFilesystem(folder, "op_x");
      await storage.put("a/small", body("x"), { signal, ifAbsent: true });
      const putting = storage.put("a/b", body("x".repeat(100_000), 100), { signal, ifAbsent: true });
      await expect(putting).rejects.toMatchObject({ reason: "REPOSITORY_FULL", metadata: { errno: "ENOSPC" } });
      expect(await readdir(join(folder, "a"))).toEqual(["small"]);
      expect(await storage.freeBytes(signal)).toBeGreaterThan(3_000_000);
      await storage.put("a/b", body("x".repeat(100_000), 10), { signal, ifAbsent: true });
    } finally {
      run("umount", folder);
    }
  });
});

async function makeReadOnly(folder: string): Promise<void> {
  if (!isRoot) return chmod(folder, 0o500);
  run("mount", "--bind", folder, folder);
  run("mount", "-o", "remount,bind,ro", folder);
}

async function makeWritable(folder: string): Promise<void> {
  if (isRoot) run("umount", folder);
  else await chmod(folder, 0o700);
}

function run(program: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ended with ${status}: ${stderr}`);
}
