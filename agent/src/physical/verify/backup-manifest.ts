import { createHash } from "node:crypto";
import { fail } from "@coppice/proto/kit/failure";
import { crc32c } from "../../postgres/wal/crc32c.ts";

/** A file as PostgreSQL's backup_manifest lists it. */
export interface ManifestFile {
  readonly sizeBytes: number;
  /** Undefined where it has none. */
  readonly checksum: string | undefined;
  readonly algorithm: string;
}

/** A digest that bytes are given to piece by piece. */
export interface Digest {
  update(bytes: Uint8Array): void;
  /** Lower-case hexadecimal, as the manifest spells it. */
  finish(): string;
}

/** What PostgreSQL's backup_manifest says. */
export interface ParsedBackupManifest {
  /** By path relative to the data directory, a tablespace's files below pg_tblspc/<oid>/. */
  readonly files: Map<string, ManifestFile>;
  /** Of the server; PostgreSQL before 17 does not say it. */
  readonly systemIdentifier: string | undefined;
  readonly walRanges: readonly { readonly timeline: number; readonly startLsn: string; readonly endLsn: string }[];
}

interface JsonManifest {
  readonly Files: readonly {
    readonly Path?: string;
    readonly "Encoded-Path"?: string;
    readonly Size: number;
    readonly "Checksum-Algorithm"?: string;
    readonly Checksum?: string;
  }[];
  readonly "WAL-Ranges": readonly {
    readonly Timeline: number;
    readonly "Start-LSN": string;
    readonly "End-LSN": string;
  }[];
  readonly "Manifest-Checksum": string;
}

/**
 * Parses a backup_manifest, whose last line is the SHA-256 of everything before it. Names that are no UTF-8 are given as
 * latin1, which is what an archive's names are compared in. Fails with CONTENT_UNREADABLE.
 */
export function parseBackupManifest(bytes: Buffer): ParsedBackupManifest {
  let json: JsonManifest;
  try {
    json = JSON.parse(bytes.toString("utf8")) as JsonManifest;
  } catch (error) {
    return fail("CONTENT_UNREADABLE", "the backup_manifest is not JSON", { cause: error });
  }
  const own = bytes.lastIndexOf(Buffer.from('"Manifest-Checksum"'));
  const sha256 = createHash("sha256").update(bytes.subarray(0, own)).digest("hex");
  if (own < 0 || json["Manifest-Checksum"] !== sha256)
    fail("CONTENT_UNREADABLE", "the backup_manifest does not have the checksum that it says");
  const files = json.Files.map((file): [string, ManifestFile] => {
    const encoded = file["Encoded-Path"];
    const path = encoded === undefined ? Buffer.from(file.Path ?? "") : Buffer.from(encoded, "hex");
    const algorithm = file["Checksum-Algorithm"] ?? "NONE";
    return [path.toString("latin1"), { sizeBytes: file.Size, checksum: file.Checksum, algorithm }];
  });
  const walRanges = json["WAL-Ranges"].map((range) => ({
    timeline: range.Timeline,
    startLsn: range["Start-LSN"],
    endLsn: range["End-LSN"],
  }));
  // A number with more digits than JSON's numbers keep.
  const systemIdentifier = /"System-Identifier":\s*(\d+)/.exec(bytes.subarray(0, 200).toString("latin1"))?.[1];
  return { files: new Map(files), systemIdentifier, walRanges };
}

/** The manifest's digests by their names there; undefined for one that this version does not know. */
export function openDigest(algorithm: string): Digest | undefined {
  const known = /^SHA(224|256|384|512)$/.exec(algorithm);
  if (known) {
    const hash = createHash(`sha${known[1]}`);
    return { update: (bytes) => void hash.update(bytes), finish: () => hash.digest("hex") };
  }
  if (algorithm !== "CRC32C") return undefined;
  let value = 0;
  return {
    update: (bytes) => {
      value = crc32c(bytes, value);
    },
    finish() {
      const bytes = Buffer.alloc(4);
      // As the server has it in memory, and the machines that it runs on are little-endian.
      bytes.writeUInt32LE(value);
      return bytes.toString("hex");
    },
  };
}
