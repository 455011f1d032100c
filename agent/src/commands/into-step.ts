import type { IntoProgress } from "../logical/into/transaction.ts";
import type { CommandContext } from "./handler.ts";

const name = "into";

/** The step that a restore into a database that is there notes for its settling: how far it is, and its transaction. */
export const intoStep = {
  write: ({ note }: CommandContext, progress: IntoProgress): Promise<void> =>
    note(name, progress.is === "loading" ? `loading ${progress.xid ?? ""}`.trimEnd() : progress.is),
  read({ noted }: CommandContext): IntoProgress | undefined {
    const text = noted(name);
    if (text === undefined) return undefined;
    if (text === "looking" || text === "committed") return { is: text };
    const [, xid] = /^loading (\d+)$/.exec(text) ?? [];
    return { is: "loading", ...(xid === undefined ? {} : { xid }) };
  },
};
