import { onLocalstack } from './elsewhere.ts';
import { faults } from './faults.steps.ts';

faults(onLocalstack);
