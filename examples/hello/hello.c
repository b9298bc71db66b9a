/* Prints the platform that it was compiled for, and the machine that it finds itself on. */
#include <stdio.h>
#include <sys/utsname.h>

int main(void)
{
    struct utsname machine;

    if (uname(&machine) != 0)
        return 1;
    printf("hello from %s on %s\n", PLATFORM, machine.machine);
    return 0;
}
