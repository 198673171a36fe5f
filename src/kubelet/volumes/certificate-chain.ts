/** The certificates of a PEM text, one text each: without comments, headers and what else may stand there. */
export function certificatesOf(text: string): string[] {
  return [...text.matchAll(/-----BEGIN ([^\n]*)-----\s*\n([\s\S]*?)-----END \1-----/g)].map(([, , body]) =>
    pemOf('CERTIFICATE', Buffer.from(body!.replace(/^[^\n]*:[\s\S]*?\n\s*\n/, ''), 'base64')),
  );
}

/** PEM as every tool writes it: lines of 64 characters. */
export function pemOf(label: string, der: Uint8Array): string {
  const lines = Buffer.from(der)
    .toString('base64')
    .match(/.{1,64}/g);
  return `-----BEGIN ${label}-----\n${(lines ?? []).join('\n')}\n-----END ${label}-----\n`;
}
