import { fromJsonString, toJsonString } from "@bufbuild/protobuf";
import {
  type RestorePhysicalResult,
  RestorePhysicalResultSchema,
} from "@coppice/proto/gen/coppice/agent/v1/restore_physical";
import type { CommandContext } from "./handler.ts";

const name = "restored";

/** The step that a physical restore notes for its settling: its result, once nothing can go wrong any more. */
export const restoredResult = {
  write: ({ note }: CommandContext, result: RestorePhysicalResult): Promise<void> =>
    note(name, toJsonString(RestorePhysicalResultSchema, result)),
  read({ noted }: CommandContext): RestorePhysicalResult | undefined {
    const text = noted(name);
    return text === undefined ? undefined : fromJsonString(RestorePhysicalResultSchema, text);
  },
};
