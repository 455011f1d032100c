/** Where recovery is to end. Times are microseconds since 1970. */
export type Target = TargetPoint & {
  /** What is exactly at the point is left out. */
  readonly exclusive?: boolean;
  /** Timeline to follow; undefined means the latest that leads there. */
  readonly timeline?: number;
};

/** The point alone. */
export type TargetPoint =
  | { readonly kind: "latest" }
  /** As soon as the backup is consistent. */
  | { readonly kind: "immediate" }
  /** The last commit at or before it. */
  | { readonly kind: "time"; readonly timeUs: bigint }
  | { readonly kind: "lsn"; readonly lsn: bigint }
  | { readonly kind: "xid"; readonly xid: number }
  /** A restore point. */
  | { readonly kind: "name"; readonly name: string };
