/** Bytes of the longest message that the control plane takes of an agent; a longer one ends the session. */
export const longestSessionMessage = 64 * 1024 * 1024;
