import { formatLsn, parseLsn } from "@coppice/proto/kit/wal/lsn";
import { customType, timestamp } from "drizzle-orm/pg-core";

/** Bytes; `bytea` in the database. */
export const bytea = customType<{ data: Uint8Array; driverData: Uint8Array }>({
  dataType: () => "bytea",
  toDriver: (value) => Buffer.from(value.buffer, value.byteOffset, value.byteLength),
});

/** A WAL position; `pg_lsn` in the database, a number of bytes here. */
export const lsn = customType<{ data: bigint; driverData: string }>({
  dataType: () => "pg_lsn",
  toDriver: formatLsn,
  fromDriver: parseLsn,
});

/** A point in time, to the millisecond: what a `Date` holds comes back as it was. */
export const time = () => timestamp({ withTimezone: true, precision: 3, mode: "date" });
