import { Readable } from "node:stream";
import { Failure } from "@coppice/proto/kit/failure";
import type { Body, Storage } from "../../../agent/src/storage/storage.ts";

type Method = Exclude<keyof Storage, "name" | "capabilities" | typeof Symbol.asyncDispose>;

/** One call of a storage, as it was counted. */
export interface StorageCall {
  /** From 1, in the order in which they began. */
  readonly number: number;
  readonly method: Method;
  /** The key, prefix, or first of the keys. */
  readonly what: string;
}

/** What goes wrong with one call. */
export type StorageFault =
  /** It fails before it has done anything. */
  | { readonly is: "refused" }
  /** It is done, and fails. */
  | { readonly is: "lost answer" }
  /** It fails before it has done anything, and so does every one after it. */
  | { readonly is: "gone from then on" }
  /** It is done and fails, and every one after it fails without being done. */
  | { readonly is: "done, then gone" }
  /** The body of a put or a get breaks after so many bytes; a list after one entry; a delete after half of its keys. */
  | { readonly is: "cut"; readonly afterBytes: number }
  /** The body of a get comes with this byte changed; one beyond its end is its last one. */
  | { readonly is: "flipped byte"; readonly at: number };

/** A storage, and what was done with it. */
export interface FaultStorage {
  readonly storage: Storage;
  readonly calls: readonly StorageCall[];
  /** Whether the fault came to happen. */
  readonly isHit: boolean;
}

/** What a storage at fault fails with: what one in a network says when it is not there. */
export const injectedReason = "REPOSITORY_UNREACHABLE";

function broken({ number, method, what }: StorageCall): Failure {
  return new Failure(injectedReason, `made to fail: call ${number}, ${method} ${what}`);
}

/** Breaks after the byte although all came before it: a body that ends there too was not heard to end. */
async function* cut(body: Body, afterBytes: number, error: Failure): AsyncGenerator<Uint8Array, void> {
  let room = afterBytes;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    if (room > 0) yield chunk.subarray(0, room);
    room -= chunk.length;
    if (room <= 0) throw error;
  }
  throw error;
}

/** Holds one chunk back, so that there is a last one to change. */
async function* flip(body: Readable, at: number): AsyncGenerator<Buffer, void> {
  let offset = 0;
  let held: Buffer | undefined;
  let isDone = false;
  const changed = (chunk: Buffer, index: number) => {
    const copy = Buffer.from(chunk);
    copy.writeUInt8(copy.readUInt8(index) ^ 0x20, index);
    isDone = true;
    return copy;
  };
  for await (const chunk of body as AsyncIterable<Buffer>) {
    if (held) yield held;
    held = !isDone && at < offset + chunk.length ? changed(chunk, at - offset) : chunk;
    offset += chunk.length;
  }
  if (held) yield isDone || held.length === 0 ? held : changed(held, held.length - 1);
}

async function* failing<T>(items: AsyncIterable<T>, most: number, error: Failure): AsyncGenerator<T, void> {
  let count = 0;
  if (most > 0)
    for await (const item of items) {
      yield item;
      count++;
      if (count === most) break;
    }
  throw error;
}

/**
 * A view of a storage that counts its calls and does wrong what is said to the call of that number; without a fault it
 * only counts. It is for tests: no program knows of it. Disposing of it leaves the storage open.
 */
export function openFaultStorage(inner: Storage, fault?: { call: number; fault: StorageFault }): FaultStorage {
  const calls: StorageCall[] = [];
  let isHit = false;

  /** The fault of this call, where it has one; fails here where the call is to fail before it is done. */
  function count(method: Method, what: string): { call: StorageCall; fault: StorageFault | undefined } {
    const call = { number: calls.length + 1, method, what };
    calls.push(call);
    if (!fault || call.number < fault.call) return { call, fault: undefined };
    const isOwn = call.number === fault.call;
    const { is } = fault.fault;
    if (isOwn) isHit = true;
    if (is === "gone from then on" || (is === "done, then gone" && !isOwn)) throw broken(call);
    if (isOwn && is === "refused") throw broken(call);
    return { call, fault: isOwn ? fault.fault : undefined };
  }

  /** A call whose work has no body: whatever its fault, it is done, and nobody hears of it. */
  async function answer<T>(method: Method, what: string, work: () => Promise<T>): Promise<T> {
    const { call, fault } = count(method, what);
    const value = await work();
    if (fault) throw broken(call);
    return value;
  }

  async function* listed<T>(method: Method, what: string, items: () => AsyncIterable<T>): AsyncGenerator<T, void> {
    const { call, fault } = count(method, what);
    if (!fault) yield* items();
    else yield* failing(items(), fault.is === "cut" ? 1 : Infinity, broken(call));
  }

  const storage: Storage = {
    name: inner.name,
    capabilities: inner.capabilities,
    async put(key, body, options) {
      const counted = (() => {
        try {
          return count("put", key);
        } catch (error) {
          // By the contract a failed put ends its body.
          if (body instanceof Readable) body.destroy();
          throw error;
        }
      })();
      const { call, fault } = counted;
      if (fault?.is === "cut") return await inner.put(key, cut(body, fault.afterBytes, broken(call)), options);
      const stored = await inner.put(key, body, options);
      if (fault) throw broken(call);
      return stored;
    },
    async get(key, options) {
      const { call, fault } = count("get", key);
      if (!fault) return await inner.get(key, options);
      // That there is no such object is an answer too, and can be lost.
      const reader = await inner.get(key, options).catch(() => Promise.reject(broken(call)));
      if (fault.is === "flipped byte") return Readable.from(flip(reader, fault.at), { objectMode: false });
      if (fault.is === "cut") return Readable.from(cut(reader, fault.afterBytes, broken(call)), { objectMode: false });
      reader.destroy();
      throw broken(call);
    },
    stat: (key, signal) => answer("stat", key, () => inner.stat(key, signal)),
    list: (prefix, signal) => listed("list", prefix, () => inner.list(prefix, signal)),
    async deleteMany(keys, signal) {
      const { call, fault } = count("deleteMany", keys[0] ?? "nothing");
      const isHalf = fault?.is === "cut";
      const deleted = await inner.deleteMany(isHalf ? keys.slice(0, keys.length >> 1) : keys, signal);
      if (fault) throw broken(call);
      return deleted;
    },
    listUnfinished: (prefix, signal) => listed("listUnfinished", prefix, () => inner.listUnfinished(prefix, signal)),
    removeUnfinished: (unfinished, signal) =>
      answer("removeUnfinished", unfinished[0]?.id ?? "nothing", () => inner.removeUnfinished(unfinished, signal)),
    freeBytes: (signal) => answer("freeBytes", "", () => inner.freeBytes(signal)),
    async [Symbol.asyncDispose]() {},
  };
  return {
    storage,
    calls,
    get isHit() {
      return isHit;
    },
  };
}
