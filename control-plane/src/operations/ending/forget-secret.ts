import type { Database } from "../../catalog/catalog.ts";
import type { OperationRow } from "../../catalog/operations/row.ts";
import { deleteSecret } from "../../catalog/secret.ts";
import { parseSpec } from "../spec.ts";
import { isTerminal } from "../states.ts";

/** Forgets the secret of an operation that has ended, where it had one: in the transaction of its last change. */
export async function forgetSecret(tx: Database, { state, spec: json }: OperationRow): Promise<void> {
  if (!isTerminal(state)) return;
  const { spec, kind } = parseSpec(json);
  const { ownSecret } = kind.references(spec);
  if (ownSecret !== undefined) await deleteSecret(tx, ownSecret);
}
