// One suite, because it is one contract: whatever is a storage passes all of it, and shares the place it is run on.

import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import type { Failure } from "@coppice/proto/kit/failure";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Storage } from "../../agent/src/storage/storage.ts";

/** An empty place for objects, made for a run of the contract. */
export interface StoragePlace extends AsyncDisposable {
  /** Opens it for the work of an operation. */
  open(operationId: string): Promise<Storage>;
  /** Where its listing is tried. */
  readonly listing: ListingPlace;
  /** Longest key that it holds, in bytes, where it is less than the contract's 1,024. */
  readonly longestKeyBytes?: number;
}

/** A place for the listing of thousands of keys, filled by other means: through a storage each put is many requests. */
export interface ListingPlace {
  /** Opens it, with an object of one byte below each of these keys and no others. */
  open(keys: readonly string[]): Promise<Storage>;
  /** Whether nobody lists it afterwards, so that it may be emptied. */
  readonly isLast: boolean;
}

const signal = new AbortController().signal;

async function* body(...chunks: (string | Uint8Array)[]): AsyncGenerator<Uint8Array, void> {
  for (const chunk of chunks) yield typeof chunk === "string" ? Buffer.from(chunk) : chunk;
}

async function read(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** A key of exactly so many bytes. */
function longKey(prefix: string, bytes: number): string {
  const names = Array.from({ length: Math.ceil(bytes / 201) }, () => "ü".repeat(100)).join("/");
  let key = prefix + names;
  while (Buffer.byteLength(key) > bytes) key = key.slice(0, -1);
  return key.replace(/\/$/, "x") + "x".repeat(bytes - Buffer.byteLength(key));
}

/** Checks the contract in the comment of Storage; every kind of storage runs it. */
export function describeStorage(
  kind: string,
  make: () => Promise<StoragePlace>,
  /** Why this machine cannot have it; each test is then left out and says so. */
  unavailable?: string,
): void {
  describe(`${kind} as a storage`, () => {
    let place: StoragePlace;
    let storage: Storage;

    beforeEach(({ skip }) => {
      if (unavailable !== undefined) skip(unavailable);
    });
    beforeAll(async () => {
      if (unavailable !== undefined) return;
      place = await make();
      storage = await place.open("op_contract");
    });
    afterAll(async () => {
      if (unavailable !== undefined) return;
      await storage[Symbol.asyncDispose]();
      await place[Symbol.asyncDispose]();
    });

    const put = (key: string, ...chunks: (string | Uint8Array)[]) =>
      storage.put(key, body(...chunks), { signal, ifAbsent: true });
    const text = async (key: string) => (await read(await storage.get(key, { signal }))).toString();
    const keys = async (prefix: string) =>
      (await Array.fromAsync(storage.list(prefix, signal))).map(({ key }) => key).toSorted();
    // What a delete says of so many named keys of which some were there.
    const deleted = (there: number, named: number) => (storage.capabilities.countsDeleted ? there : named);
    const unfinished = (prefix: string) => Array.fromAsync(storage.listUnfinished(prefix, signal));

    test("what was put is read back, from a generator and from a stream", async () => {
      expect(await put("basic/a", "one ", "two")).toEqual({ sizeBytes: 7 });
      expect(await text("basic/a")).toBe("one two");
      expect(await storage.stat("basic/a", signal)).toEqual({ sizeBytes: 7 });
      const stream = Readable.from([Buffer.from("x"), Buffer.from("y")]);
      expect(await storage.put("basic/b", stream, { signal, ifAbsent: true })).toEqual({ sizeBytes: 2 });
      expect(await text("basic/b")).toBe("xy");
    });

    test("a digest and a note that a put gives are given back where the storage keeps them", async () => {
      const given = {
        contentSha256: createHash("sha256").update("plain").digest("hex"),
        contentNote: "0/40000A8 1F/4FFFFC8",
      };
      const piece = Buffer.alloc(9_000_000, "x");
      for (const [key, chunk] of [
        ["digest/small", Buffer.from("coded")],
        ["digest/large", piece],
      ] as const) {
        await storage.put(key, body(chunk), { signal, ifAbsent: true, ...given });
        const kept = storage.capabilities.keepsDigests ? given : {};
        expect(await storage.stat(key, signal)).toEqual({ sizeBytes: chunk.length, ...kept });
      }
    });

    test("an empty object is an object", async () => {
      expect(await put("empty/none")).toEqual({ sizeBytes: 0 });
      expect(await put("empty/chunk", "")).toEqual({ sizeBytes: 0 });
      expect(await text("empty/none")).toBe("");
      expect(await storage.stat("empty/chunk", signal)).toEqual({ sizeBytes: 0 });
      expect(await keys("empty/")).toEqual(["empty/chunk", "empty/none"]);
    });

    test("a large object of uneven chunks comes back byte for byte and in large chunks", async () => {
      const piece = Buffer.alloc(3_000_017, "abcdefghijklmnopqrstuvwxyz0123456789");
      const hash = createHash("sha256");
      async function* large() {
        for (let index = 0; index < 30; index++) {
          const chunk = piece.subarray(index * 1000, piece.length - index * 77_777);
          hash.update(chunk);
          yield chunk;
        }
      }
      const { sizeBytes } = await storage.put("large/one", large(), { signal, ifAbsent: true });
      const back = createHash("sha256");
      let chunks = 0;
      let size = 0;
      for await (const chunk of (await storage.get("large/one", { signal })) as AsyncIterable<Buffer>) {
        back.update(chunk);
        chunks++;
        size += chunk.length;
      }
      expect(size).toBe(sizeBytes);
      expect(back.digest("hex")).toBe(hash.digest("hex"));
      expect(size / chunks).toBeGreaterThan(250_000);
    });

    test("a range gives that part, cut at the end of the object", async () => {
      await put("range", "0123456789");
      const table: [offset: number, length: number, expected: string][] = [
        [0, 4, "0123"],
        [4, 3, "456"],
        [7, 100, "789"],
        [10, 5, ""],
        [99, 5, ""],
        [3, 0, ""],
      ];
      for (const [offset, length, expected] of table) {
        const part = await read(await storage.get("range", { signal, range: { offset, length } }));
        expect(part.toString(), `${offset}+${length}`).toBe(expected);
      }
    });

    test("what is missing is OBJECT_MISSING to get, undefined to stat and nothing to list and delete", async () => {
      await put("missing/there", "x");
      for (const key of ["missing/not", "missing/there/below", "nowhere/at/all", "missing"]) {
        await expect(storage.get(key, { signal }), key).rejects.toMatchObject({ reason: "OBJECT_MISSING" });
        expect(await storage.stat(key, signal), key).toBeUndefined();
      }
      expect(await keys("nowhere/")).toEqual([]);
      expect(await storage.deleteMany(["missing/not", "nowhere/at/all", "missing/there/below"], signal)).toBe(
        deleted(0, 3),
      );
      expect(await text("missing/there")).toBe("x");
    });

    test("with ifAbsent a key that is taken is OBJECT_EXISTS and keeps its object", async () => {
      await put("taken", "first");
      await expect(put("taken", "second")).rejects.toMatchObject({ reason: "OBJECT_EXISTS" });
      expect(await text("taken")).toBe("first");
      expect(await unfinished("")).toEqual([]);
    });

    test("without ifAbsent an object is replaced, and its reader goes on with the one it had", async () => {
      await put("replaced", Buffer.alloc(5_000_000, "a"));
      const reader = await storage.get("replaced", { signal });
      await storage.put("replaced", body("short"), { signal, ifAbsent: false });
      expect((await read(reader)).equals(Buffer.alloc(5_000_000, "a"))).toBe(true);
      expect(await text("replaced")).toBe("short");
    });

    test("of many puts of one key at once exactly one wins, whole", async () => {
      const other = await place.open("op_other");
      const outcomes = await Promise.allSettled(
        Array.from({ length: 40 }, (_, index) =>
          (index % 2 === 0 ? storage : other).put("race/deep/one", body(`${index}:`, Buffer.alloc(100_000, "x")), {
            signal,
            ifAbsent: storage.capabilities.putIfAbsent,
          }),
        ),
      );
      await other[Symbol.asyncDispose]();
      const winners = outcomes.flatMap(({ status }, index) => (status === "fulfilled" ? [index] : []));
      expect(winners).toHaveLength(1);
      expect((await text("race/deep/one")).split(":")[0]).toBe(String(winners[0]));
      const losers = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason as Failure] : []));
      expect(new Set(losers.map(({ reason }) => reason))).toEqual(new Set(["OBJECT_EXISTS"]));
      expect(await unfinished("")).toEqual([]);
    });

    test("a body that fails in the middle leaves nothing, and its own error comes out", async () => {
      async function* cut() {
        yield Buffer.alloc(3_000_000);
        await delay(5);
        throw new Error("the source broke");
      }
      await expect(storage.put("cut/a", cut(), { signal, ifAbsent: true })).rejects.toThrow("the source broke");
      const stream = Readable.from(cut());
      await expect(storage.put("cut/b", stream, { signal, ifAbsent: false })).rejects.toThrow("the source broke");
      expect(stream.destroyed).toBe(true);
      expect(await keys("cut/")).toEqual([]);
      expect(await unfinished("")).toEqual([]);
    });

    test("an aborted put rejects at once with the reason, leaves nothing and lets go of its body", async () => {
      const controller = new AbortController();
      const reason = new Error("not wanted");
      const stuck = new Readable({ read() {} });
      stuck.push(Buffer.alloc(2_000_000));
      const putting = storage.put("aborted/a", stuck, { signal: controller.signal, ifAbsent: true });
      setTimeout(() => controller.abort(reason), 50);
      await expect(putting).rejects.toBe(reason);
      expect(stuck.destroyed).toBe(true);
      expect(await keys("aborted/")).toEqual([]);
      expect(await unfinished("")).toEqual([]);
      await expect(
        storage.put("aborted/b", body("x"), { signal: AbortSignal.abort(reason), ifAbsent: true }),
      ).rejects.toBe(reason);
    });

    test("an aborted read fails with the reason, and every other call does", async () => {
      await put("abort-read", Buffer.alloc(20_000_000));
      const controller = new AbortController();
      const reason = new Error("seen enough");
      const reader = await storage.get("abort-read", { signal: controller.signal });
      const reading = read(reader);
      reader.once("data", () => controller.abort(reason));
      await expect(reading).rejects.toBe(reason);
      const aborted = controller.signal;
      await expect(storage.get("abort-read", { signal: aborted })).rejects.toBe(reason);
      await expect(storage.stat("abort-read", aborted)).rejects.toBe(reason);
      await expect(storage.deleteMany(["abort-read"], aborted)).rejects.toBe(reason);
      await expect(Array.fromAsync(storage.list("", aborted))).rejects.toBe(reason);
      await expect(storage.freeBytes(aborted)).rejects.toBe(reason);
      expect(await storage.stat("abort-read", signal)).toEqual({ sizeBytes: 20_000_000 });
    });

    test("a reader that leaves early is no trouble", async () => {
      await put("left", Buffer.alloc(10_000_000));
      for await (const _ of await storage.get("left", { signal })) break;
      const unread = await storage.get("left", { signal });
      unread.destroy();
      expect(await storage.deleteMany(["left"], signal)).toBe(1);
    });

    test("strange keys are kept apart and come back as they were", async () => {
      const strange = [
        "strange/a b",
        "strange/a+b",
        "strange/%2e%2e",
        "strange/line\nend",
        "strange/tab\tquote'\"\\back",
        "strange/-rf",
        "strange/*?[x]",
        "strange/.hidden",
        "strange/...",
        "strange/ü",
        "strange/u\u0308",
        "strange/🐘",
        "strange/A",
        "strange/a",
        `strange/${"x".repeat(255)}`,
        `strange/${"d/".repeat(100)}deep`,
        longKey("strange/", place.longestKeyBytes ?? 1024),
      ];
      await Promise.all(strange.map((key) => put(key, key)));
      expect(await keys("strange/")).toEqual(strange.toSorted());
      for (const key of strange) expect(await text(key)).toBe(key);
      expect(await storage.deleteMany(strange, signal)).toBe(strange.length);
      expect(await keys("strange/")).toEqual([]);
    });

    test("keys that no storage could hold, or that lead elsewhere, are OBJECT_KEY_REFUSED everywhere", async () => {
      const wrong = [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a\0b",
        "\ud800",
        "x".repeat(256),
      ];
      wrong.push("long/".repeat(205));
      const refused = { reason: "OBJECT_KEY_REFUSED" };
      for (const key of wrong) {
        await expect(put(key, "x"), JSON.stringify(key)).rejects.toMatchObject(refused);
        await expect(storage.get(key, { signal }), JSON.stringify(key)).rejects.toMatchObject(refused);
        await expect(storage.stat(key, signal), JSON.stringify(key)).rejects.toMatchObject(refused);
        await expect(storage.deleteMany([key], signal), JSON.stringify(key)).rejects.toMatchObject(refused);
      }
      expect(await keys("../")).toEqual([]);
      expect(await keys("a/../")).toEqual([]);
    });

    test("a listing streams ten thousand keys and keeps to its prefix", { timeout: 60_000 }, async () => {
      // S3 lists and deletes a thousand at a time.
      const wanted = Array.from({ length: 10_000 }, (_, index) => `many/${index % 2}/object-${index}`);
      const neighbour = "many-others";
      await using there = await place.listing.open([...wanted, neighbour]);
      const listed = async (prefix: string) =>
        (await Array.fromAsync(there.list(prefix, signal))).map(({ key }) => key).toSorted();
      expect(await listed("many/")).toEqual(wanted.toSorted());
      expect(await listed("many/1/")).toHaveLength(5000);
      expect(await listed("many/1/object-1999")).toEqual(
        wanted.filter((key) => key.startsWith("many/1/object-1999")).toSorted(),
      );
      let seen = 0;
      for await (const { sizeBytes } of there.list("many", signal)) {
        expect(sizeBytes).toBe(1);
        if (++seen === 10) break;
      }
      if (!place.listing.isLast) return;
      expect(await there.deleteMany(wanted, signal)).toBe(wanted.length);
      expect(await listed("many")).toEqual([neighbour]);
    });

    test("a delete takes exactly the named keys, and may be repeated", async () => {
      await Promise.all(["del/a", "del/b", "del/c/d", "del-other"].map((key) => put(key, "x")));
      expect(await storage.deleteMany(["del/a", "del/c/d", "del/a"], signal)).toBe(2);
      expect(await storage.deleteMany(["del/a", "del/c/d"], signal)).toBe(deleted(0, 2));
      expect(await storage.deleteMany([], signal)).toBe(0);
      expect(await keys("del")).toEqual(["del-other", "del/b"]);
      await put("del/c/d", "again");
      expect(await text("del/c/d")).toBe("again");
    });

    test("puts and deletes of neighbours do not disturb each other", async () => {
      await Promise.all(
        Array.from({ length: 100 }, async (_, index) => {
          const key = `busy/${index % 3}/${index}`;
          await put(key, key);
          expect(await text(key)).toBe(key);
          expect(await storage.deleteMany([key], signal)).toBe(1);
        }),
      );
      expect(await keys("busy/")).toEqual([]);
    });

    test("a put under way is invisible, is shown as unfinished with its operation, and can be removed", async () => {
      const slow = new Readable({ read() {} });
      // More than a storage gathers before it stores anything.
      slow.push(Buffer.alloc(20_000_000));
      const controller = new AbortController();
      const putting = storage.put("slow/a", slow, { signal: controller.signal, ifAbsent: true });
      putting.catch(() => {});
      const stored = async () => (await unfinished("slow/"))[0]?.sizeBytes ?? 0;
      await expect.poll(stored, { timeout: 60_000 }).toBeGreaterThan(0);
      expect(await keys("slow/")).toEqual([]);
      expect(await storage.stat("slow/a", signal)).toBeUndefined();
      const [one] = await unfinished("slow/");
      expect(["op_contract", undefined]).toContain(one?.operationId);
      expect(Math.abs((one?.modifiedTime.getTime() ?? 0) - Date.now())).toBeLessThan(60_000);
      expect(await unfinished("other/")).toEqual([]);
      expect(await storage.removeUnfinished(one ? [one] : [], signal)).toBe(1);
      expect(await storage.removeUnfinished(one ? [one] : [], signal)).toBe(0);
      expect(await unfinished("slow/")).toEqual([]);
      controller.abort(new Error("no longer wanted"));
      await expect(putting).rejects.toThrow("no longer wanted");
      expect(await keys("slow/")).toEqual([]);
    });

    test("its free space is a number where it knows it", async () => {
      const free = await storage.freeBytes(signal);
      expect(free !== undefined).toBe(storage.capabilities.freeBytes);
      expect(free ?? 1).toBeGreaterThan(0);
    });
  });
}
