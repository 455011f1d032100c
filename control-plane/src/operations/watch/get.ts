import type { Operation } from "@coppice/proto/gen/coppice/control/v1/operation";
import { fail } from "@coppice/proto/kit/failure";
import type { Database } from "../../catalog/catalog.ts";
import { findOperation } from "../../catalog/operations/read.ts";
import { snapshot } from "./snapshot.ts";

/** The operation as it is now. Errors: OPERATION_NOT_FOUND. */
export async function requireOperation(db: Database, id: string): Promise<Operation> {
  const record = await findOperation(db, id);
  return record === undefined ? fail("OPERATION_NOT_FOUND", `there is no operation ${id}`) : snapshot(record);
}
