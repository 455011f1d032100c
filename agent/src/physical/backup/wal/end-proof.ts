import type { EndRecord } from "../../../postgres/wal/end-record.ts";

/**
 * What shows that archived WAL is the server's own: the record that a primary has written at its end, or of a standby, which
 * writes none, the digest of the last segment up to that end, as openSegmentDigest makes it.
 */
export type EndProof = EndRecord | { readonly is: "bytes"; readonly sha256: string };
