import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";

/** Times of a row as fields of a message; those that are null are left out. */
export function times<Field extends string>(
  dates: Readonly<Record<Field, Date | null | undefined>>,
): { [F in Field]?: Timestamp } {
  const fields: { [F in Field]?: Timestamp } = {};
  for (const field of Object.keys(dates) as Field[]) {
    const date = dates[field];
    if (date !== null && date !== undefined) fields[field] = timestampFromDate(date);
  }
  return fields;
}
