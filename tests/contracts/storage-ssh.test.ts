// One file, because it is one storage: the contract, and what only a server of SSH can do to it.

import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import type { SshLocation } from "@coppice/proto/gen/coppice/common/v1/location";
import {
  type StorageCredential,
  StorageCredentialSchema,
} from "@coppice/proto/gen/coppice/common/v1/storage_credential";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openSsh } from "../../agent/src/storage/ssh/open-ssh.ts";
import { freePort } from "../support/free-port.ts";
import { makeKey, type Sshd, startSshd } from "../support/sshd/sshd.ts";
import { runProgram } from "../support/run-program.ts";
import type { Storage } from "../../agent/src/storage/storage.ts";
import { fillFolder } from "./fill-folder.ts";
import { describeStorage } from "./storage.ts";

const signal = new AbortController().signal;
const quick = { connectMs: 3000, silenceMs: 1000, answerMs: 3000, syncMs: 6000 };
const unreachable = { reason: "REPOSITORY_UNREACHABLE" };

// Thousands of fsyncs, one after another, are no test of a disk.
const scratch = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

describeStorage("a folder by SFTP", async () => {
  const folder = await mkdtemp(join(scratch, "coppice-contract-"));
  const server = await startSshd();
  const openAt = (path: string, operationId: string) =>
    openSsh(server.location(path), { operationId, credentials: {}, signal });
  return {
    open: (operationId) => openAt(folder, operationId),
    listing: {
      isLast: true,
      async open(keys) {
        const many = join(folder, "listing");
        await fillFolder(many, keys);
        return await openAt(many, "op_listing");
      },
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
});

async function* body(...chunks: string[]): AsyncGenerator<Uint8Array, void> {
  for (const chunk of chunks) yield Buffer.from(chunk);
}

async function* endless(onChunk: (count: number) => void): AsyncGenerator<Uint8Array, void> {
  const chunk = Buffer.alloc(1 << 20);
  for (let count = 1; ; count++) {
    onChunk(count);
    yield chunk;
    await new Promise(setImmediate);
  }
}

async function* zeros(mebibytes: number): AsyncGenerator<Uint8Array, void> {
  for (let count = 0; count < mebibytes; count++) yield Buffer.alloc(1 << 20);
}

const open = (location: SshLocation, read?: StorageCredential, patience = quick): Promise<Storage> =>
  openSsh(location, {
    operationId: "op_x",
    credentials: read ? { read, write: read, delete: read } : {},
    signal,
    patience,
  });

const sealed = (privateKey: string, passphrase = "") =>
  create(StorageCredentialSchema, { kind: { case: "ssh", value: { privateKey, passphrase } } });

describe("a server of SSH", () => {
  let folder: string;
  let server: Sshd;
  beforeAll(async () => {
    server = await startSshd();
  });
  afterAll(() => server[Symbol.asyncDispose]());
  beforeEach(async () => {
    folder = await mkdtemp(join(scratch, "coppice-ssh-"));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  test("with another host key is refused with both fingerprints, and with none of the pinned type", async () => {
    const other = await makeKey(join(folder, "other"));
    const opening = open({ ...server.location(folder), hostKeys: [other] });
    await expect(opening).rejects.toMatchObject({ reason: "HOST_KEY_UNTRUSTED" });
    await expect(opening).rejects.toThrow(/SHA256:.{43}.*SHA256:.{43}/);
    const blob = Buffer.concat([Buffer.from([0, 0, 0, 7]), Buffer.from("ssh-rsa"), randomBytes(64)]);
    const rsa = { ...server.location(folder), hostKeys: [`ssh-rsa ${blob.toString("base64")}`] };
    await expect(open(rsa)).rejects.toMatchObject({ reason: "HOST_KEY_UNTRUSTED" });
    const two = { ...server.location(folder), hostKeys: [other, server.hostKey] };
    await using storage = await open(two);
    expect(await storage.inspect?.("probe/", signal)).toMatchObject([{ status: "ok" }]);
  });

  test("says what is wrong with the key to log in with", async () => {
    const location = server.location(folder);
    const file = join(folder, "key");
    await makeKey(file, "secret phrase");
    const text = await readFile(file, "utf8");
    const unusable = (part: string) => ({
      reason: "STORAGE_CREDENTIAL_UNUSABLE",
      message: expect.stringContaining(part) as string,
    });
    await expect(open(location, sealed(text))).rejects.toMatchObject(unusable("has a passphrase"));
    await expect(open(location, sealed(text, "wrong"))).rejects.toMatchObject(unusable("is wrong"));
    await expect(open(location, sealed("no key"))).rejects.toMatchObject(unusable("no private key"));
    await expect(open({ ...location, identityFile: join(folder, "none") })).rejects.toMatchObject(unusable("ENOENT"));
    const refused = { reason: "STORAGE_CREDENTIAL_REFUSED" };
    const slow = { ...quick, connectMs: 20_000 };
    await expect(open(location, sealed(text, "secret phrase"), slow)).rejects.toMatchObject(refused);
    await expect(open({ ...location, user: "nobody-of-that-name" }, undefined, slow)).rejects.toMatchObject(refused);
  });

  test("that is not there, or whose folder is not, is unreachable, and the folder is not made", async () => {
    const location = server.location(join(folder, "not"));
    await expect(open(location)).rejects.toMatchObject(unreachable);
    expect(await readdir(folder)).toEqual([]);
    await expect(open({ ...location, port: await freePort() })).rejects.toMatchObject(unreachable);
    await expect(open({ ...location, host: "host.invalid" })).rejects.toMatchObject(unreachable);
  });

  test("keeps files and folders for their owner, removes folders that became empty, and follows no link", async () => {
    await mkdir(join(folder, "outside"));
    await mkdir(join(folder, "inside"));
    await writeFile(join(folder, "outside/secret"), "secret");
    await symlink(join(folder, "outside"), join(folder, "inside/link"));
    await symlink(join(folder, "outside/secret"), join(folder, "inside/file"));
    await using storage = await open(server.location(join(folder, "inside")));
    await storage.put("a/b/c", body("x"), { signal, ifAbsent: true });
    expect((await stat(join(folder, "inside/a"))).mode & 0o777).toBe(0o700);
    expect((await stat(join(folder, "inside/a/b/c"))).mode & 0o777).toBe(0o600);
    const refused = { reason: "OBJECT_KEY_REFUSED" };
    await expect(storage.put("a/b/c/d", body("x"), { signal, ifAbsent: true })).rejects.toMatchObject(refused);
    await expect(storage.put("link/new", body("x"), { signal, ifAbsent: true })).rejects.toMatchObject(refused);
    await expect(storage.get("link/secret", { signal })).rejects.toMatchObject(refused);
    await expect(storage.get("file", { signal })).rejects.toMatchObject(refused);
    await expect(storage.deleteMany(["a/b"], signal)).rejects.toMatchObject(refused);
    expect((await Array.fromAsync(storage.list("", signal))).map(({ key }) => key)).toEqual(["a/b/c"]);
    expect(await storage.deleteMany(["a/b/c"], signal)).toBe(1);
    expect((await readdir(join(folder, "inside"))).toSorted()).toEqual(["file", "link"]);
  });

  test("keeps nothing of a large body that it has written", async () => {
    await using storage = await open(server.location(folder));
    const before = process.memoryUsage().arrayBuffers;
    let mostBytes = 0;
    async function* large() {
      for await (const chunk of zeros(400)) {
        mostBytes = Math.max(mostBytes, process.memoryUsage().arrayBuffers - before);
        yield chunk;
      }
    }
    expect(await storage.put("large", large(), { signal, ifAbsent: true })).toEqual({ sizeBytes: 400 << 20 });
    expect(mostBytes).toBeLessThan(200 << 20);
  });

  test("may lose the connection between two calls", async () => {
    await using storage = await open(server.location(folder));
    await storage.put("a", body("x"), { signal, ifAbsent: true });
    await server.signalSessions("SIGKILL");
    await expect
      .poll(() => storage.stat("a", signal).catch((error: unknown) => String(error)))
      .toEqual({ sizeBytes: 1 });
  });

  test("that is killed in the middle fails puts and readers as unreachable, and nothing is left", async () => {
    await using storage = await open(server.location(folder));
    await storage.put("there", zeros(20), { signal, ifAbsent: true });
    const reader = await storage.get("there", { signal });
    const reading = (async () => {
      for await (const _ of reader) await server.signalSessions("SIGKILL");
    })();
    await expect(reading).rejects.toMatchObject(unreachable);
    const putting = storage.put(
      "new",
      endless((count) => void (count === 10 && server.signalSessions("SIGKILL"))),
      { signal, ifAbsent: true },
    );
    await expect(putting).rejects.toMatchObject(unreachable);
    // The next connection has cleared it away.
    expect(await readdir(folder)).toEqual(["there"]);
  });

  test("that stops answering fails every call in bounded time, and an abort is not held up", async () => {
    await using storage = await open(server.location(folder));
    await storage.put("there", zeros(20), { signal, ifAbsent: true });
    const reader = await storage.get("there", { signal });
    await server.signalAll("SIGSTOP");
    try {
      const controller = new AbortController();
      const reason = new Error("not wanted");
      const aborted = storage.stat("there", controller.signal);
      controller.abort(reason);
      await expect(aborted).rejects.toBe(reason);
      const calls = [
        storage.stat("there", signal),
        storage.put("new", body("x"), { signal, ifAbsent: true }),
        Array.fromAsync(reader),
        Array.fromAsync(storage.list("", signal)),
      ];
      for (const outcome of await Promise.allSettled(calls)) {
        expect(outcome).toMatchObject({ status: "rejected", reason: unreachable });
      }
      await expect(open(server.location(folder))).rejects.toMatchObject(unreachable);
    } finally {
      await server.signalAll("SIGCONT");
    }
    expect(await storage.stat("there", signal)).toEqual({ sizeBytes: 20 << 20 });
  });

  // Only root may mount.
  test.runIf(process.getuid?.() === 0)("whose disk is full, read-only or unmounted says so", async () => {
    const path = join(folder, "disk");
    await mkdir(path);
    await runProgram("mount", ["-t", "tmpfs", "-o", "size=4m", "coppice-test", path], { env: process.env });
    await using storage = await open(server.location(path));
    try {
      const full = { reason: "REPOSITORY_FULL" };
      await expect(storage.put("a/b", zeros(20), { signal, ifAbsent: true })).rejects.toMatchObject(full);
      expect(await readdir(path)).toEqual([]);
      await storage.put("a/b", zeros(1), { signal, ifAbsent: true });
      await runProgram("mount", ["-o", "remount,ro", path], { env: process.env });
      const notWritable = { reason: "REPOSITORY_NOT_WRITABLE" };
      await expect(storage.put("c", body("x"), { signal, ifAbsent: true })).rejects.toMatchObject(notWritable);
      await expect(storage.put("d/c", body("x"), { signal, ifAbsent: true })).rejects.toMatchObject(notWritable);
      await expect(storage.deleteMany(["a/b"], signal)).rejects.toMatchObject(notWritable);
    } finally {
      await runProgram("umount", [path], { env: process.env });
    }
    await expect(storage.stat("a/b", signal)).rejects.toMatchObject(unreachable);
    await expect(storage.put("c", body("x"), { signal, ifAbsent: true })).rejects.toMatchObject(unreachable);
    expect(await readdir(path)).toEqual([]);
  });

  test("lets one of two writers with connections of their own win", async () => {
    await using one = await open(server.location(folder));
    await using two = await open(server.location(folder));
    for (let round = 0; round < 10; round++) {
      const puts = [one, two].map((storage) => storage.put(`k/${round}`, body("x"), { signal, ifAbsent: true }));
      const outcomes = await Promise.allSettled(puts);
      expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
      const lost = outcomes.find(({ status }) => status === "rejected");
      expect(lost).toMatchObject({ reason: { reason: "OBJECT_EXISTS" } });
    }
  });
});

test("a server that lacks extensions claims nothing it cannot keep", async () => {
  const folder = await mkdtemp(join(scratch, "coppice-ssh-"));
  const sftpServer = "/usr/lib/openssh/sftp-server";
  await using noLink = await startSshd({ sftpServer: `${sftpServer} -P hardlink,posix-rename` });
  await using storage = await open(noLink.location(folder));
  expect(storage.capabilities.putIfAbsent).toBe(false);
  expect(await storage.inspect?.("probe/", signal)).toMatchObject([{ status: "warning" }, { status: "warning" }]);
  await storage.put("a", body("x"), { signal, ifAbsent: true });
  await expect(storage.put("a", body("y"), { signal, ifAbsent: true })).rejects.toMatchObject({
    reason: "OBJECT_EXISTS",
  });
  await expect(storage.put("a", body("y"), { signal, ifAbsent: false })).rejects.toMatchObject({
    reason: "REPOSITORY_NOT_WRITABLE",
  });
  await using noSync = await startSshd({ sftpServer: `${sftpServer} -P fsync` });
  await using undurable = await open(noSync.location(folder));
  const notWritable = { reason: "REPOSITORY_NOT_WRITABLE" };
  await expect(undurable.put("b", body("x"), { signal, ifAbsent: true })).rejects.toMatchObject(notWritable);
  await using readOnly = await startSshd({ sftpServer: `${sftpServer} -R` });
  await using unwritable = await open(readOnly.location(folder));
  expect(await unwritable.stat("a", signal)).toEqual({ sizeBytes: 1 });
  await expect(unwritable.put("b", body("x"), { signal, ifAbsent: true })).rejects.toMatchObject(notWritable);
  await expect(unwritable.deleteMany(["a"], signal)).rejects.toMatchObject(notWritable);
  await rm(folder, { recursive: true });
});

test.each(["ed25519", "ecdsa", "rsa"])("keys of type %s are proved by the server and let us in", async (keyType) => {
  const folder = await mkdtemp(join(scratch, "coppice-ssh-"));
  await using server = await startSshd({ keyType });
  expect(server.hostKey.split(" ")[0]).toContain(keyType);
  const location = server.location(folder);
  // From a file of the host, and sealed.
  for (const credential of [undefined, sealed(await readFile(server.identityFile, "utf8"))]) {
    await using storage = await open(location, credential);
    await storage.put("a", body(keyType), { signal, ifAbsent: false });
    expect(await storage.stat("a", signal)).toEqual({ sizeBytes: keyType.length });
  }
  await rm(folder, { recursive: true });
});

test("a key with a passphrase that nobody gave is refused before the server hears of it, whatever its type", async () => {
  const folder = await mkdtemp(join(scratch, "coppice-ssh-"));
  await using server = await startSshd();
  for (const type of ["ed25519", "ecdsa", "rsa"]) {
    const identityFile = join(folder, type);
    await makeKey(identityFile, "secret phrase", type);
    await expect(open({ ...server.location(folder), identityFile })).rejects.toMatchObject({
      reason: "STORAGE_CREDENTIAL_UNUSABLE",
      message: `the key ${identityFile} has a passphrase and none is known`,
      hint: expect.stringContaining("together with its passphrase") as string,
    });
  }
  expect(await readFile(server.logFile, "utf8")).not.toContain("Accepted");
  await rm(folder, { recursive: true });
});

// Only root can be another user.
test.runIf(process.getuid?.() === 0)(
  "a server and a user that are not root store, and are kept to what is theirs",
  async () => {
    const folder = await mkdtemp(join(scratch, "coppice-ssh-"));
    const ids = await Promise.all(["-u", "-g"].map((flag) => runProgram("id", [flag, "nobody"], { env: process.env })));
    const [uid = 0, gid = 0] = ids.map(({ stdout }) => Number(stdout));
    await using server = await startSshd({ as: { user: "nobody", uid, gid } });
    await using roots = await open(server.location(folder));
    await expect(Array.fromAsync(roots.list("", signal))).rejects.toMatchObject({ reason: "REPOSITORY_NOT_READABLE" });
    await chown(folder, uid, gid);
    await using storage = await open(server.location(folder));
    await storage.put("a/b", body("x"), { signal, ifAbsent: true });
    expect(await stat(join(folder, "a/b"))).toMatchObject({ uid, gid, size: 1 });
    // In a folder that it may not read it can make a file, and not sync it.
    await chmod(join(folder, "a"), 0o300);
    for (const name of ["b", "c"])
      await expect(storage.put(`a/${name}`, body("x"), { signal, ifAbsent: true })).rejects.toMatchObject({
        reason: "REPOSITORY_NOT_WRITABLE",
      });
    expect((await readdir(join(folder, "a"))).toSorted()).toEqual(["b", "c"]);
    await chmod(join(folder, "a"), 0o700);
    await expect(storage.put("a/c", body("x"), { signal, ifAbsent: true })).rejects.toMatchObject({
      reason: "OBJECT_EXISTS",
    });
    await chown(join(folder, "a"), 0, 0);
    await expect(storage.get("a/b", { signal })).rejects.toMatchObject({ reason: "REPOSITORY_NOT_READABLE" });
    await expect(storage.put("a/c", body("x"), { signal, ifAbsent: true })).rejects.toMatchObject({
      reason: "REPOSITORY_NOT_WRITABLE",
    });
    await rm(folder, { recursive: true });
  },
);
