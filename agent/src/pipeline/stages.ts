import { fail } from "@coppice/proto/kit/failure";
import type { Program } from "../host/program.ts";

/** How a stored stream is compressed, as the manifest spells it. */
export type Codec = "zstd" | "gzip" | "none";

const codecs: readonly string[] = ["zstd", "gzip", "none"] satisfies Codec[];
const defaultLevels = { zstd: 3, gzip: 6 };

/** The codec of that name, or undefined for one that this version does not know. */
export function parseCodec(text: string): Codec | undefined {
  return codecs.includes(text) ? (text as Codec) : undefined;
}

/** How a stream is encoded. */
export interface Encoding {
  readonly codec: Codec;
  /** zstd 1 to 19, gzip 1 to 9; 0 means zstd's 3 and gzip's 6. */
  readonly level: number;
  /** age recipients (age1…) it is encrypted to after it was compressed; empty means not encrypted. */
  readonly recipients: readonly string[];
}

/** What a stored stream says of its encoding; a StoredStream is one. */
export interface Encoded {
  readonly codec: string;
  readonly encrypted: boolean;
}

/** The programs that encode a stream, in order; none for codec none without recipients. */
export function encodePrograms({ codec, level, recipients }: Encoding): Program[] {
  const programs: Program[] = [];
  // --check adds a checksum of the plain content, which Node never sees; gzip always has one.
  if (codec === "zstd")
    programs.push({ file: "zstd", args: ["-T0", `-${level || defaultLevels.zstd}`, "-q", "-c", "--check"] });
  if (codec === "gzip") programs.push({ file: "gzip", args: [`-${level || defaultLevels.gzip}`, "-q", "-c"] });
  if (recipients.length > 0)
    programs.push({ file: "age", args: ["--encrypt", ...recipients.map((recipient) => `--recipient=${recipient}`)] });
  return programs;
}

/**
 * The programs that decode a stored stream, in order. `identities` are lines of an age identity file, as matchIdentities
 * gives them; they reach age by a descriptor that has no name. Fails with FEATURE_UNKNOWN for a codec that this version
 * does not know, and with IDENTITY_MISSING when the stream is encrypted and there are none.
 */
export function decodePrograms({ codec, encrypted }: Encoded, identities: string | undefined): Program[] {
  const known = parseCodec(codec) ?? fail("FEATURE_UNKNOWN", `the codec ${JSON.stringify(codec)} is unknown`);
  const programs: Program[] = [];
  if (encrypted) {
    if (!identities) fail("IDENTITY_MISSING", "the stream is encrypted, and no identity was given");
    programs.push({ file: "age", args: ["--decrypt", "--identity=/dev/fd/3"], secretInput: identities });
  }
  if (known === "zstd") programs.push({ file: "zstd", args: ["-d", "-q", "-c"] });
  if (known === "gzip") programs.push({ file: "gzip", args: ["-d", "-q", "-c"] });
  return programs;
}

/** The ending of a stream's name: .zst, .gz or nothing, then .age when it is encrypted. */
export function encodingSuffix({ codec, encrypted }: { readonly codec: Codec; readonly encrypted: boolean }): string {
  return { zstd: ".zst", gzip: ".gz", none: "" }[codec] + (encrypted ? ".age" : "");
}
