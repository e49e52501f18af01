/* Waits in vfork for a child that waits for a line: it cannot be stopped, killed only. Then runs /bin/cat. */
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>

int main(void) {
    char byte;
    printf("ready\n");
    fflush(stdout);
    if (vfork() == 0) {
        (void)!read(0, &byte, 1);
        _exit(0);
    }
    execl("/bin/cat", "cat", (char *)NULL);
    return 1;
}
