import { fromJsonString, toJsonString } from "@bufbuild/protobuf";
import { type RecoverPartResult, RecoverPartResultSchema } from "@coppice/proto/gen/coppice/agent/v1/recover_part";
import type { CommandContext } from "./handler.ts";

const name = "recovered-part";

/** The step that work on a part notes for its settling: its result; nothing takes it back. */
export const recoveredPart = {
  write: ({ note }: CommandContext, result: RecoverPartResult | undefined): Promise<void> =>
    note(name, result ? toJsonString(RecoverPartResultSchema, result) : ""),
  read({ noted }: CommandContext): RecoverPartResult | undefined {
    const text = noted(name);
    return text ? fromJsonString(RecoverPartResultSchema, text) : undefined;
  },
};
