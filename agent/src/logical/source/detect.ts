/** What the beginning of a file shows it to be. */
export type Detected = "age" | "custom" | "gzip" | "plain" | "tar" | "zstd" | { readonly unknown: string };

const tarBlock = 512;
/** Compressions that people use and that no stage decodes. */
const strangers: readonly [name: string, magic: readonly number[]][] = [
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a]],
  ["bzip2", [0x42, 0x5a, 0x68]],
  ["lz4", [0x04, 0x22, 0x4d, 0x18]],
  ["a zip archive", [0x50, 0x4b, 0x03, 0x04]],
];

function begins(head: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((byte, index) => head[index] === byte);
}

/** The name of a tar's first member, or undefined when it is no tar. */
function firstMember(head: Buffer): string | undefined {
  if (head.length < tarBlock || head.toString("latin1", 257, 262) !== "ustar") return undefined;
  return head.toString("utf8", 0, 100).replace(/\0.*$/s, "");
}

/** Tells by its first bytes, of which 512 are enough, what a dump is; never by its name. */
export function detectFormat(head: Buffer): Detected {
  if (head.toString("latin1", 0, 22) === "age-encryption.org/v1\n") return "age";
  if (begins(head, [0x28, 0xb5, 0x2f, 0xfd])) return "zstd";
  if (begins(head, [0x1f, 0x8b])) return "gzip";
  if (head.toString("latin1", 0, 5) === "PGDMP") return "custom";
  const member = firstMember(head);
  if (member !== undefined) return member === "toc.dat" ? "tar" : { unknown: "a tar archive that is none of pg_dump" };
  const stranger = strangers.find(([, magic]) => begins(head, magic));
  if (stranger) return { unknown: stranger[0] };
  if (head.toString("latin1", 0, 34) === "-----BEGIN AGE ENCRYPTED FILE-----") return { unknown: "armored age" };
  if (head.length === 0) return { unknown: "empty" };
  return head.includes(0) ? { unknown: "neither SQL nor an archive of pg_dump" } : "plain";
}

/** What the first lines of plain SQL say of it. */
export interface ScriptHead {
  readonly isCluster: boolean;
  /** 0 where they do not say. */
  readonly serverMajor: number;
  readonly toolMajor: number;
}

/** Reads the comments that pg_dump and pg_dumpall begin with. */
export function parseScriptHead(head: string): ScriptHead {
  const major = (pattern: RegExp) => Number(pattern.exec(head)?.[1] ?? 0);
  return {
    isCluster: /^(?:--.*\n|\s*\n)*?-- PostgreSQL database cluster dump\r?$/m.test(head.slice(0, 1000)),
    serverMajor: major(/^-- Dumped from database version (\d+)/m),
    toolMajor: major(/^-- Dumped by pg_dump version (\d+)/m),
  };
}
