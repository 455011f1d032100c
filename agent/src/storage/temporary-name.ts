/** What the name of a file that is still being written tells. */
export interface TemporaryName {
  readonly operationId: string;
  /** Tells puts of one operation apart. */
  readonly unique: string;
}

const pattern = /^\.coppice-unfinished\.([0-9A-Za-z_-]{1,64})\.([0-9a-f]{16})$/;

/** Name of a file that is still being written: .coppice-unfinished.op_….0123456789abcdef. */
export function formatTemporaryName({ operationId, unique }: TemporaryName): string {
  return `.coppice-unfinished.${operationId}.${unique}`;
}

/** Reads such a name; undefined for any other. */
export function parseTemporaryName(name: string): TemporaryName | undefined {
  const [, operationId, unique] = pattern.exec(name) ?? [];
  return operationId === undefined || unique === undefined ? undefined : { operationId, unique };
}
