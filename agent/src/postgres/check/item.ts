import { CheckStatus } from "@coppice/proto/gen/coppice/common/v1/check";
import { isFailure } from "@coppice/proto/kit/failure";

/** One thing that was looked at; see CheckItem. */
export interface Item {
  readonly name: string;
  readonly status: CheckStatus;
  readonly message: string;
  readonly fix: string;
  readonly statements: readonly string[];
  readonly needsRestart: boolean;
  /** Database whose dump fails because of it; empty where it is about something else. */
  readonly database: string;
}

const nothing = { fix: "", statements: [], needsRestart: false, database: "" };

/** As it should be. */
export const ok = (name: string, message: string): Item => ({ name, status: CheckStatus.OK, message, ...nothing });

/** Works, but somebody should know; what mends it is more than SQL. */
export const warning = (name: string, message: string, fix: string): Item => ({
  name,
  status: CheckStatus.WARNING,
  message,
  ...nothing,
  fix,
});

/** The same where statements mend it; a note says what else they do, or where they belong. */
export function mendable(
  name: string,
  message: string,
  { statements, note = "" }: { readonly statements: readonly string[]; readonly note?: string },
): Item {
  return { ...warning(name, message, [...statements, note && `-- ${note}`].filter(Boolean).join(" ")), statements };
}

/** The same where the server has to be started again after them. */
export function mendableByRestart(name: string, message: string, statements: readonly string[], when = ""): Item {
  const fix = `${when && `${when}: `}${statements.join(" ")} -- and restart the server`;
  return { ...warning(name, message, fix), statements, needsRestart: true };
}

/** Does not work. What is no Failure is a mistake of ours, and no answer about the cluster: it is thrown. */
export function failed(name: string, error: unknown): Item {
  if (!isFailure(error)) throw error;
  return { name, status: CheckStatus.FAILED, message: error.message, ...nothing, fix: error.hint };
}

/**
 * On a standby roles and databases cannot be changed: what mends them is said, and for whom. Settings are each server's
 * own.
 */
export function onStandby(item: Item): Item {
  if (item.statements.length === 0 || item.statements.some((each) => each.startsWith("ALTER SYSTEM"))) return item;
  return { ...item, statements: [], fix: `on the primary: ${item.fix}` };
}
