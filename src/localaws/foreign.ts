import type { IncomingMessage } from 'node:http';

const loopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\]|169\.254\.169\.252|([a-z0-9-]+\.)+amazonaws\.com)$/;

/** Whether a request may come from elsewhere than a tool that means this endpoint: a web page, or a name that was made to lead here. */
export function foreign(message: IncomingMessage): string | undefined {
  if (message.headers.origin !== undefined) return 'requests of web pages are not answered';
  const host = (message.headers.host ?? '').toLowerCase().replace(/:\d+$/, '');
  return loopback.test(host) ? undefined : 'the Host header names another host';
}
