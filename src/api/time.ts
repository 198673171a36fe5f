/** RFC 3339 in UTC with whole seconds, as metav1.Time is written. */
export const rfc3339 = (at: Date = new Date()): string => `${at.toISOString().slice(0, 19)}Z`;

/** The present, as metav1.Time is written. */
export const now = (): string => rfc3339();

/** RFC 3339 in UTC with six decimals, as metav1.MicroTime is written. */
export const microTime = (at: Date = new Date()): string => `${at.toISOString().slice(0, 23)}000Z`;
