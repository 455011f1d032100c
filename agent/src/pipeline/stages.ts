import type { Program } from "../host/program.ts";

/** How a stored stream is encoded, as the manifest spells it. */
export type Codec = "zstd" | "none";

/** The codec of that name, or undefined for one that this version does not know. */
export function parseCodec(text: string): Codec | undefined {
  return text === "zstd" || text === "none" ? text : undefined;
}

/** The programs that encode a stream, in order; none for codec none. `level` is zstd's, 1 to 19; 0 means 3. */
export function encodePrograms(codec: Codec, level: number): Program[] {
  if (codec === "none") return [];
  // --check adds a checksum of the plain content, which Node never sees.
  return [{ file: "zstd", args: ["-T0", `-${level || 3}`, "-q", "-c", "--check"] }];
}

/** The programs that decode a stored stream, in order. */
export function decodePrograms(codec: Codec): Program[] {
  return codec === "none" ? [] : [{ file: "zstd", args: ["-d", "-q", "-c"] }];
}
