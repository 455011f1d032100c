import type { CommandContext } from "./handler.ts";

const name = "staged-oid";

/** The step that a restore notes for its settling: the oid of the database that it has staged. */
export const stagedOid = {
  write: ({ note }: CommandContext, oid: number): Promise<void> => note(name, String(oid)),
  read({ noted }: CommandContext): number | undefined {
    const text = noted(name);
    return text === undefined ? undefined : Number(text);
  },
};
