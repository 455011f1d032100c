import type { Attributes } from "ssh2";

const typeMask = 0o170000;

export const isDirectory = ({ mode }: Attributes): boolean => (mode & typeMask) === 0o040000;
export const isRegularFile = ({ mode }: Attributes): boolean => (mode & typeMask) === 0o100000;
export const isSymbolicLink = ({ mode }: Attributes): boolean => (mode & typeMask) === 0o120000;
