import type { Readable } from "node:stream";

/** An object as a listing shows it. */
export interface ListedObject {
  readonly key: string;
  readonly sizeBytes: number;
}

/** An object as a look at it shows it. */
export interface StoredObject extends Pick<PutOptions, "contentSha256" | "contentNote"> {
  readonly sizeBytes: number;
}

/** What a put that never came to its end has left in the storage. */
export interface Unfinished {
  /** Names it within the storage; it is no key of an object. */
  readonly id: string;
  /** Key that it was to become, or of its file beside it. */
  readonly key: string;
  /** The operation that the storage was opened for by whoever wrote it; undefined where the storage cannot know. */
  readonly operationId?: string | undefined;
  /** Bytes that it holds; undefined where the storage does not tell. */
  readonly sizeBytes?: number | undefined;
  /** When it was last written, or begun, by the storage's clock. */
  readonly modifiedTime: Date;
}

/** What a storage can do; known when it is opened. */
export interface Capabilities {
  /** Whether `ifAbsent` has exactly one winner even when several processes put the same key at once. */
  readonly putIfAbsent: boolean;
  /** Bodies of up to so many bytes it is true of, where the put's `mostBytes` says that it is one. */
  readonly putIfAbsentBytes: number;
  /** Whether it knows its free space. */
  readonly freeBytes: boolean;
  /** Whether a delete is told if there was an object; without it every named key counts as deleted. */
  readonly countsDeleted: boolean;
  /** Whether `contentSha256` and `contentNote` of a put are kept beside the object, for `stat` to give. */
  readonly keepsDigests: boolean;
  /**
   * Whether a put comes with digests of its bytes that the storage compares before it answers, so that a put that has
   * resolved needs no look at what is there.
   */
  readonly comparesPuts: boolean;
}

/** One thing that a storage found out about itself. */
export interface Finding {
  /** Short stable name: rights, clock, versioning. */
  readonly name: string;
  readonly status: "ok" | "warning" | "failed";
  readonly message: string;
  /** What mends it; empty when nothing is wrong. */
  readonly fix: string;
}

/** Options of a put. */
export interface PutOptions {
  readonly signal: AbortSignal;
  /** Fail with OBJECT_EXISTS instead of replacing an object of that key. */
  readonly ifAbsent: boolean;
  /** The body has at most so many bytes, which makes one request of it where that can be. */
  readonly mostBytes?: number;
  /** The body's chunks are held by nobody else: their memory may be freed once it was copied. */
  readonly ownsChunks?: boolean;
  /** SHA-256 of what the body means to its writer, lower-case hexadecimal; kept where `keepsDigests` says so. */
  readonly contentSha256?: string;
  /** What its writer says of the body for who cannot read that: some dozens of letters; kept where `keepsDigests` says so. */
  readonly contentNote?: string;
}

/** Part of an object, in bytes; `length` beyond its end gives what is there. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/**
 * A place for objects. The contract, which `tests/contracts/storage.ts` checks:
 * - Keys are names joined by `/`. No name is empty, `.`, `..`, over 255 bytes, or holds NUL; a key has at most 1,024
 *   bytes; no key is a folder of another. All else is allowed; a refused key is OBJECT_KEY_REFUSED.
 * - An object is there whole or not at all: what a reader sees was put to its end.
 * - What has resolved is durable: it survives a crash of the host.
 * - A storage in a network repeats single requests that were lost or turned away, within a bounded time; it never
 *   reads a body twice. Every call may be repeated (a repeated put with `ifAbsent` may meet its own object).
 * - A storage that hangs is REPOSITORY_UNREACHABLE in bounded time.
 * - Failures: REPOSITORY_UNREACHABLE (not there; retry later), REPOSITORY_IO_ERROR, REPOSITORY_NOT_READABLE,
 *   REPOSITORY_NOT_WRITABLE, REPOSITORY_FULL, OBJECT_MISSING, OBJECT_EXISTS, OBJECT_KEY_REFUSED, or the signal's reason;
 *   in a network also REPOSITORY_CREDENTIALS_REFUSED, REPOSITORY_CLOCK_SKEWED, REPOSITORY_SETTINGS_REFUSED,
 *   OBJECT_ARCHIVED. An aborted call settles at once.
 */
export interface Storage extends AsyncDisposable {
  /** Its address, for messages; holds no secret. */
  readonly name: string;
  readonly capabilities: Capabilities;

  /**
   * Stores an object. The body is read once, with back-pressure and bounded memory, and is destroyed or returned when
   * the put fails; the put fails with the body's own error. A failed put leaves nothing, save the whole object where it
   * had its name already and could not be made durable; a killed one leaves what `listUnfinished` shows. One that is
   * told that there is such an object already finds it durable.
   */
  put(key: string, body: Body, options: PutOptions): Promise<{ sizeBytes: number }>;

  /**
   * The bytes of an object, or of a part of it, in large chunks. OBJECT_MISSING is thrown here, not by the stream; the
   * stream fails when the object ends early, and never ends cleanly then.
   */
  get(key: string, options: { signal: AbortSignal; range?: ByteRange }): Promise<Readable>;

  /**
   * An object whose bytes are one open file of this host, for a program to read by itself while `bytes`, which is as
   * `get` gives it, reads the same file. The descriptor is open until `bytes` is over or destroyed. Left out where
   * objects are no files; fails as `get`.
   */
  getFile?(key: string, signal: AbortSignal): Promise<{ readonly fd: number; readonly bytes: Readable }>;

  /** Size of an object, and what its put kept with it; undefined when there is no object. */
  stat(key: string, signal: AbortSignal): Promise<StoredObject | undefined>;

  /**
   * The objects whose keys begin with `prefix` ("" is all), in no promised order and without holding them all in
   * memory. What is put or deleted meanwhile may be in it or not.
   */
  list(prefix: string, signal: AbortSignal): AsyncIterable<ListedObject>;

  /**
   * Deletes exactly these keys and says how many there were, or how many were named where `countsDeleted` is false;
   * one that is not there is no error.
   */
  deleteMany(keys: readonly string[], signal: AbortSignal): Promise<number>;

  /** What stays of objects that were deleted, for people to read; undefined, or left out, where nothing does. */
  whatStays?(signal: AbortSignal): Promise<string | undefined>;

  /** What unended puts have left of keys that would begin with the folder `prefix`, which is "" or ends in `/`. */
  listUnfinished(prefix: string, signal: AbortSignal): AsyncIterable<Unfinished>;

  /** Removes what unended puts have left and says how many there were. Never give it one that is still being written. */
  removeUnfinished(unfinished: readonly Unfinished[], signal: AbortSignal): Promise<number>;

  /** Bytes that can still be written, or undefined where the storage does not know. */
  freeBytes(signal: AbortSignal): Promise<number | undefined>;

  /**
   * Looks at what only its kind has: rights, region, clock, versioning. It tries everything with probe objects below
   * the folder `probePrefix`, which ends in `/`; what does not work is a finding, and only an abort throws.
   */
  inspect?(probePrefix: string, signal: AbortSignal): Promise<readonly Finding[]>;
}

/** The bytes of an object on their way in. */
export type Body = Readable | AsyncIterable<Uint8Array>;
