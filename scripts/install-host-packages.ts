/** Installs the host packages that instances and containers need, as `kumulus create cluster` does. */
import { installMissing } from '../src/cluster/preflight.ts';

installMissing((line) => console.log(line));
