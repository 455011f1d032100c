import { customType, timestamp } from "drizzle-orm/pg-core";

/** Bytes; `bytea` in the database. */
export const bytea = customType<{ data: Uint8Array; driverData: Uint8Array }>({
  dataType: () => "bytea",
  toDriver: (value) => Buffer.from(value.buffer, value.byteOffset, value.byteLength),
});

/** A point in time, to the millisecond: what a `Date` holds comes back as it was. */
export const time = () => timestamp({ withTimezone: true, precision: 3, mode: "date" });
