/** Of an error of the file system: undefined where nothing is there; any other is thrown again. */
export function ignoreMissing(error: unknown): undefined {
  if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
}
